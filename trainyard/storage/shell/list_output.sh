# Say kind (file, link, other), size and name of everything below $root that is no folder, each with a NUL behind it.
: "${root?}"
cd "$root" || exit 1
find . ! -type d -exec sh -c 'for path do if [ -L "$path" ]; then kind=l; elif [ -f "$path" ]; then kind=f; else kind=o; fi
size=0; [ "$kind" != f ] || size=$(wc -c <"$path"); printf "%s %d %s\0" "$kind" "$size" "${path#./}"; done' sh {} +
