# Take files out of the store into their places: triples (sha256, mode, name) on stdin, each word ended by NUL.
: "${top?}" "${store?}" "${id?}"
. ./tree_absolute.sh
export top store id
# shellcheck disable=SC2016  # it is the inner sh that expands them
xargs -0 -n 300 sh -c 'while [ $# -gt 2 ]; do
  part="$top/.part-$id"
  touch -c "$store/$1"
  { cp "$store/$1" "$part" && chmod "$2" "$part" && mv -f "$part" "$top/$3"; } || { rm -f "$part"; exit 1; }
  shift 3
done' sh
