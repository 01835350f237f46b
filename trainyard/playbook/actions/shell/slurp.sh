: "${path?}" "${limit?}"
[ -f "$path" ] || { echo "there is no file $path" >&2; exit 1; }
[ "$(wc -c <"$path")" -le "$limit" ] || { echo "$path is too big for a variable: fetch it" >&2; exit 1; }
cat <"$path"
