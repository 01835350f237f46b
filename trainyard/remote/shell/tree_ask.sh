# Say of the names on stdin (each ended by NUL) what lies there: a line each, d for a folder, f for a file, - for nothing;
# then the sha256 of those that are files, then their modes, in the same order.
: "${top?}" "${id?}"
[ -e "$top" ] || { echo absent; exit 0; }
cd "$top" || exit 1
list="${TMPDIR:-/tmp}/.ask-$id"
trap 'rm -f "$list" "$list.there"' EXIT
cat >"$list" || exit 1
# shellcheck disable=SC2016  # it is the inner sh that expands them
xargs -0 sh -c 'for f; do if [ -d "./$f" ]; then echo d; elif [ -f "./$f" ]; then echo f; else echo -; fi; done' sh <"$list"
# shellcheck disable=SC2016
xargs -0 sh -c 'for f; do [ ! -f "./$f" ] || printf "./%s\000" "$f"; done' sh <"$list" >"$list.there"
echo
[ ! -s "$list.there" ] || xargs -0 sha256sum <"$list.there" 2>/dev/null
echo
[ ! -s "$list.there" ] || xargs -0 stat -L -c %a <"$list.there" 2>/dev/null
true
