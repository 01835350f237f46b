# Say where the file goes or is, and its size and hashes where it is there.
: "${path?}" "${name?}" "${into?}"
. ./answer.sh
if [ -n "$name" ] && { [ "$into" -eq 1 ] || [ -d "$path" ]; }; then path=${path%/}/$name; fi
say path "$path"
[ -e "$path" ] || exit 0
[ -f "$path" ] || fail "$path is not a file"
say_number size "$(wc -c <"$path")"
sum=$(md5sum <"$path") && say md5 "${sum%% *}" || exit 1
sum=$(sha256sum <"$path") && say sha256 "${sum%% *}" || exit 1
