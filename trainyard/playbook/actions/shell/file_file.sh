: "${path?}"
. ./change.sh
[ -f "$path" ] || { echo "there is no file $path" >&2; exit 1; }
. ./mode.sh
