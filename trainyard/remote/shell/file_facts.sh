# Say a file's size, and unless its hash is $known what tells it from one that lies there at another time.
: "${path?}" "${known?}"
[ -f "$path" ] || { echo "there is no file $path" >&2; exit 1; }
wc -c <"$path" || exit 1
[ -n "$known" ] || stat -L -c %Y.%i "$path"
