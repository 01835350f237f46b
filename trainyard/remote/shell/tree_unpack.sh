# Put the files of a pack in their places. It holds them under numbers, and `names` as pairs (number, name): tar never
# sees an odd name, and no file takes its place before the whole pack has come.
: "${top?}" "${id?}"
. ./tree_absolute.sh
part="$top/.part-$id"
trap 'rm -rf "$part"' EXIT
umask 077
mkdir -p "$part" && cd "$part" && tar -xpzof - || exit 1
export top
# shellcheck disable=SC2016  # it is the inner sh that expands them
xargs -0 -n 400 sh -c 'while [ $# -gt 1 ]; do mv -f "$1" "$top/$2" || exit 1; shift 2; done' sh <names || exit 1
