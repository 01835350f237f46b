# Say a file's size, and its hash unless that is $known.
: "${path?}" "${known?}"
[ -f "$path" ] || { echo "there is no file $path" >&2; exit 1; }
wc -c <"$path" || exit 1
[ -z "$known" ] || exit 0
. ./sha.sh
sha <"$path"
