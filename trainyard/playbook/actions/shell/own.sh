# own PATH...: give them, and with $recurse all below them, the mode, owner and group that are wished for; what is empty stays as it is.
# Comes after answer.sh. A mode is of digits, or as chmod reads it; then a file of the same mode is tried to know what it makes.
: "${check?}" "${diff?}" "${mode?}" "${owner?}" "${group?}" "${recurse?}"
mask=$(umask)
will() { changed; [ "$check" -eq 0 ]; }
only=-prune
[ "$recurse" -eq 0 ] || only=
# shellcheck disable=SC2086 # words of find
fits() {
  if [ "$recurse" -eq 0 ]; then [ -n "$(find "$@" -prune $tests -print 2>&1)" ]; else [ -n "$(find "$@" $tests -print 2>&1 | head -c 1)" ]; fi
}
made_of() {
  probe=$(mktemp -d) || exit 1
  thing=$probe
  [ "$2" = directory ] || { thing=$probe/x; : >"$thing"; }
  { chmod "0$1" "$thing" && (umask "$mask"; chmod -- "$mode" "$thing") && stat -c %a "$thing"; } || echo wrong
  rm -rf "$probe"
}
# With $diff say what becomes another one, under the name $named if there is one: differs WHAT NOW THEN PATH...
named=%n
# shellcheck disable=SC2086 # words of find
differs() {
  line="$named: $1 $2 -> $3"; shift 3
  [ "$diff" -eq 0 ] || find "$@" $only $tests -exec stat -c "$line" {} + | head -n 50 | while IFS= read -r line; do say_item owned "$line"; done
}
# shellcheck disable=SC2086
differs_made() {
  [ "$diff" -eq 0 ] || find "$@" $only ! -type l -exec stat -c "%a %F,$named" {} + | head -n 50 | while IFS= read -r line; do
    now=${line%% *} kind=${line#* }
    made=$(made_of "$now" "${kind%%,*}")
    [ "$made" = "$now" ] || say_item owned "${kind#*,}: mode 0$now -> 0$made"
  done
}
own() {
  # shellcheck disable=SC2086 # words of find
  if tests="! -user $owner"; [ -n "$owner" ] && fits "$@" && differs owner %U "$owner" "$@" && will; then find "$@" $only $tests -exec chown -h -- "$owner" {} + || exit 1; fi
  # shellcheck disable=SC2086
  if tests="! -group $group"; [ -n "$group" ] && fits "$@" && differs group %G "$group" "$@" && will; then find "$@" $only $tests -exec chgrp -h -- "$group" {} + || exit 1; fi
  # shellcheck disable=SC2086
  case $mode in
    "") ;;
    *[!0-7]*)
      wrong=$(find "$@" $only ! -type l -exec stat -c '%a %F' {} + | sort -u | while read -r now kind; do
        [ "$(made_of "$now" "$kind")" = "$now" ] || echo "$now"
      done)
      if [ -n "$wrong" ] && differs_made "$@" && will; then (umask "$mask"; find "$@" $only ! -type l -exec chmod -- "$mode" {} +) || exit 1; fi ;;
    # A digit in front takes away the bits of a folder that chmod would keep.
    *) if tests="! -type l ! -perm $mode"; fits "$@" && differs mode 0%a "0${mode#0}" "$@" && will; then find "$@" $only $tests -exec chmod "0$mode" {} + || exit 1; fi ;;
  esac
}
# Say how a path lies there.
tell() {
  if [ -L "$1" ]; then kind="link"; elif [ -d "$1" ]; then kind=directory; elif [ -e "$1" ]; then kind="file"; else say state absent; return; fi
  # shellcheck disable=SC2046 # numbers and names
  set -- $(stat -c '%a %u %g %s %U %G %h' "$1")
  [ $kind != file ] || [ "$7" -eq 1 ] || kind=hard
  case $1 in ????) full=$1 ;; ???) full=0$1 ;; *) full=$(printf %04o "0$1") ;; esac
  say state $kind; say mode "$full"; say_number uid "$2"; say_number gid "$3"; say_number size "$4"
  say owner "$5"; say group "$6"
}
# Keep what is there under the name that others use for it, too.
keep_backup() {
  kept="$1.$$.$(date +%Y-%m-%d@%H:%M:%S)~"
  cp -p -- "$1" "$kept" || exit 1
  say backup_file "$kept"
}
