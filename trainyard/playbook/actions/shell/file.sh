# Make $path be a folder, a file that is there, a link, or nothing; without $state it stays what it is.
: "${path?}" "${state?}" "${src?}" "${force?}" "${follow?}" "${modified?}" "${accessed?}"
. ./answer.sh
. ./own.sh
shown=$path
case $path in /*) ;; *) path=./$path ;; esac
[ "$state" != absent ] || case $shown in /|.|..) fail "refused: $shown" ;; esac
if [ -z "$state" ]; then
  if [ -L "$path" ]; then [ "$follow" -eq 1 ] || state="link"; fi
  [ -n "$state" ] || { [ ! -d "$path" ] && [ "$recurse" -eq 0 ] && state="file"; } || state=directory
fi
case $state in link|absent|hard) ;; *)
  if [ "$follow" -eq 1 ] && [ -L "$path" ]; then real=$(readlink -f -- "$path" && echo x) && path=${real%?x}; fi ;;
esac
# Set a time: which one, and when ("now", or as touch -t reads it).
time_of() {
  case $2 in "") return ;; now) will && { touch -c "$1" -- "$path" || exit 1; }; return ;; esac
  probe=$(mktemp) || exit 1
  touch -t "$2" "$probe" || exit 1
  of=Y
  [ "$1" = -m ] || of=X
  [ "$(stat -c "%$of" "$probe")" = "$(stat -c "%$of" "$path")" ] || { will && { touch -c "$1" -t "$2" -- "$path" || exit 1; }; }
  rm -f "$probe"
}
both_times() { time_of -m "$modified"; time_of -a "$accessed"; }
# Put what was made beside it in its place.
new="${path%/*}/.new-$$"
placed() { mv -f -- "$new" "$path" || { rm -f "$new"; exit 1; }; }
case $state in
absent)
  [ ! -e "$path" ] && [ ! -L "$path" ] || { will && { rm -rf -- "$path" || exit 1; }; }
  say state absent; exit 0 ;;
directory)
  if [ ! -d "$path" ]; then
    [ ! -e "$path" ] && [ ! -L "$path" ] || fail "$shown is there and is not a folder"
    will || { say state directory; exit 0; }
    top=$path
    while up=${top%/*}; [ -n "$up" ] && [ ! -d "$up" ]; do top=$up; done
    mkdir -p -- "$path" || exit 1
    # Each folder that was made gets what is wished for, which is no difference to what was there.
    diff=0
    while own "$top"; [ "$top" != "$path" ]; do rest=${path#"$top"/}; top=$top/${rest%%/*}; done
  fi
  own "$path"; both_times ;;
file)
  no_other "$path"
  [ -f "$path" ] || fail "there is no file $shown"
  own "$path"; both_times ;;
touch)
  if [ ! -e "$path" ]; then
    will || exit 0
    : >>"$path" || exit 1
    diff=0
  fi
  own "$path"; both_times ;;
link)
  say src "$src"
  if [ -n "$src" ] && { [ ! -L "$path" ] || [ "$(readlink "$path" && echo x)" != "$(printf '%s\nx' "$src")" ]; }; then
    case $src in /*) leads=$src ;; *) leads=${path%/*}/$src ;; esac
    [ "$force" -eq 1 ] || [ "$check" -eq 1 ] || [ -e "$leads" ] || fail "there is no $leads for $shown to lead to ('force: true' makes the link all the same)"
    if [ -d "$path" ] && [ ! -L "$path" ]; then
      [ "$force" -eq 1 ] || fail "$shown is there and is a folder"
      [ -z "$(find "$path" -prune ! -empty)" ] || fail "$shown is a folder that is not empty"
      if will; then rmdir -- "$path" || exit 1; fi
    elif [ -e "$path" ] && [ ! -L "$path" ]; then [ "$force" -eq 1 ] || fail "$shown is there and is not a link"; fi
    will || exit 0
    rm -f "$new" && ln -s -- "$src" "$new" || exit 1
    # What leads to a folder would be moved into it.
    [ ! -L "$path" ] || [ ! -d "$path" ] || rm -f -- "$path" || exit 1
    placed
  elif [ -z "$src" ] && [ ! -L "$path" ]; then fail "'src' says where the link $shown shall lead to"; fi
  if [ "$follow" -eq 1 ] && [ -e "$path" ]; then real=$(readlink -f -- "$path" && echo x) && own "${real%?x}"; else own "$path"; fi ;;
hard)
  say src "$src"
  if [ -n "$src" ]; then
    [ -e "$src" ] || fail "there is no $src"
    if [ "$(stat -c %d:%i "$path" 2>/dev/null)" != "$(stat -c %d:%i "$src")" ]; then
      [ ! -d "$path" ] || fail "$shown is a folder"
      [ ! -e "$path" ] || [ "$force" -eq 1 ] || fail "$shown is another file ('force: true' replaces it)"
      will || exit 0
      rm -f "$new" && ln -- "$src" "$new" || exit 1
      placed
    fi
  fi
  own "$path" ;;
esac
tell "$path"
