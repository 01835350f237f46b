: "${path?}"
. ./change.sh
[ ! -e "$path" ] || [ -d "$path" ] || { echo "$path is there and is not a directory" >&2; exit 1; }
[ -d "$path" ] || { change; mkdir -p "$path" || exit 1; }
. ./mode.sh
