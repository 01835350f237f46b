# Say what lies at a path: a line of numbers and names, what a link leads to, and the hash of a file that can be read.
: "${path?}" "${follow?}" "${hash?}" "${mime?}"
. ./answer.sh
case $path in /*) ;; *) path=./$path ;; esac
if [ "$follow" -eq 1 ]; then [ -e "$path" ] || exit 0; else [ -e "$path" ] || [ -L "$path" ] || exit 0; fi
deref=
[ "$follow" -eq 0 ] || deref=-L
# shellcheck disable=SC2086 # an option or nothing
say line "$(stat $deref -c '%f %u %g %s %i %d %h %X %Y %Z %U %G' "$path")" || exit 1
[ ! -r "$path" ] || say_flag readable 1
[ ! -w "$path" ] || say_flag writeable 1
[ ! -x "$path" ] || say_flag executable 1
if [ -L "$path" ] && [ "$follow" -eq 0 ]; then
  say lnk_target "$(readlink "$path")"
  say lnk_source "$(readlink -f "$path" || readlink "$path")"
elif [ -f "$path" ] && [ -r "$path" ]; then
  [ -z "$hash" ] || { sum=$("${hash}sum" <"$path") && say checksum "${sum%% *}"; } || exit 1
  [ "$mime" -eq 0 ] || say mime "$(file -b --mime "$path" 2>/dev/null)"
fi
