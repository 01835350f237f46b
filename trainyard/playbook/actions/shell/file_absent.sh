: "${path?}"
. ./change.sh
case $path in /|""|.|..) echo "refused: $path" >&2; exit 1;; esac
[ ! -e "$path" ] && [ ! -L "$path" ] || { change; rm -rf "$path" || exit 1; }
