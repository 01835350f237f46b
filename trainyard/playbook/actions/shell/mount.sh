# Have a line in fstab and what it names mounted, or not.
: "${path?}" "${src?}" "${fstype?}" "${opts?}" "${state?}" "${dump?}" "${passno?}" "${fstab?}"
. ./answer.sh
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
escaped() { printf %s "$1" | sed 's/\\/\\134/g; s/ /\\040/g; s/\t/\\011/g'; }
at=$(escaped "$path")
mounted() { AT=$at awk '$2 == ENVIRON["AT"] { found = 1 } END { exit !found }' /proc/self/mounts; }
table=0
case $state in present | mounted | absent | absent_from_fstab)
  [ -f "$fstab" ] && cat "$fstab" >"$work/now" || : >"$work/now"
  LINE="$(escaped "$src") $at $fstype $opts $dump $passno" AT=$at STATE=$state awk '
    BEGIN { split(ENVIRON["LINE"], new, " "); gone = ENVIRON["STATE"] ~ /^absent/ }
    $0 !~ /^[ \t]*#/ && $2 == ENVIRON["AT"] {
      if (gone || done++) next
      same = $1 == new[1] && $3 == new[3] && $4 == new[4] && ($5 == "" ? 0 : $5) == new[5] && ($6 == "" ? 0 : $6) == new[6]
      print same ? $0 : ENVIRON["LINE"]
      next
    }
    { print }
    END { if (!gone && !done) print ENVIRON["LINE"] }
  ' "$work/now" >"$work/new" || exit 1
  if ! cmp -s "$work/now" "$work/new"; then
    changed
    table=1
    if [ "$check" = 0 ]; then
      part=$(mktemp "$fstab.XXXXXX") && cat "$work/new" >"$part" && chmod 0644 "$part" && mv -f "$part" "$fstab" || exit 1
    fi
  fi ;;
esac
case $state in
  mounted | ephemeral)
    if mounted; then
      [ $table = 0 ] || [ "$check" = 1 ] || mount -o remount -- "$path" </dev/null || exit 1
    else
      changed
      [ "$check" = 1 ] || { mkdir -p "$path" && mount -t "$fstype" -o "$opts" -- "$src" "$path" </dev/null; } || exit 1
    fi ;;
  remounted) changed; [ "$check" = 1 ] || mount -o "remount${opts:+,$opts}" -- "$path" </dev/null || exit 1 ;;
  unmounted | absent)
    if mounted; then changed; [ "$check" = 1 ] || umount -- "$path" </dev/null || exit 1; fi
    if [ "$state" = absent ] && [ -d "$path" ]; then
      changed
      # Only what is empty goes: nothing that was hidden below is lost.
      [ "$check" = 1 ] || rmdir -- "$path" || exit 1
    fi ;;
esac
exit 0
