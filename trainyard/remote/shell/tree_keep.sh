# Put files into the store under their sha256: pairs (sha256, name) on stdin. One that is full or cannot be written keeps
# nothing: the files are where they are needed. What nobody has used for long leaves it.
: "${top?}" "${store?}" "${id?}" "${days?}"
. ./tree_absolute.sh
mkdir -p "$store" || exit 0
export top store id
# shellcheck disable=SC2016  # it is the inner sh that expands them
xargs -0 -n 400 sh -c 'while [ $# -gt 1 ]; do
  { cp "$top/$2" "$store/.part-$id" && mv -f "$store/.part-$id" "$store/$1"; } || { rm -f "$store/.part-$id"; exit 1; }
  shift 2
done' sh 2>/dev/null
find "$store" -type f -mtime +"$days" -exec rm -f {} + 2>/dev/null
true
