# Find the processes of the session or group of $1, without $1 itself: sh builtins only, so the scan does not see itself.
peers() {
  found=
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    peer=${line%% *}
    leader=$1
    # shellcheck disable=SC2086 # the fields of the line
    set -- ${line##*) }
    [ "$1" != Z ] && [ "$peer" != "$leader" ] && { [ "$3" = "$leader" ] || [ "$4" = "$leader" ]; } && found="$found $peer"
    set -- "$leader"
  done
  [ -n "$found" ]
}
