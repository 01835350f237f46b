: "${path?}" "${src?}"
. ./change.sh
[ "$(readlink "$path")" != "$src" ] || exit 0
[ ! -e "$path" ] || [ -L "$path" ] || { echo "$path is there and is not a link" >&2; exit 1; }
change; rm -f "$path.new" && ln -s "$src" "$path.new" && mv -T "$path.new" "$path" || exit 1
