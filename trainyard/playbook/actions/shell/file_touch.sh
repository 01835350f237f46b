: "${path?}"
. ./change.sh
[ ! -d "$path" ] || { echo "$path is a directory" >&2; exit 1; }
[ -e "$path" ] || { change; : >>"$path" || exit 1; }
. ./mode.sh
