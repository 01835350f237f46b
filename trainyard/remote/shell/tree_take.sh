# Take files out of the store into their places. The pack on stdin holds links into the store: x/NAME for a program, n/NAME
# for any other file.
: "${top?}" "${id?}" "${store?}"
. ./tree_place.sh
part="$top/.part-$id"
trap 'rm -rf "$part"' EXIT
umask 022
export EXTRACT_UNSAFE_SYMLINKS=1
mkdir -p "$part" && cd "$part" && tar -xzof - || exit 1
for kind in x n; do
  [ -d $kind ] || continue
  find $kind -type l -exec touch -c {} + 2>/dev/null
  mode=0644
  [ $kind = n ] || mode=0755
  cp -RL $kind "files-$kind" && find "files-$kind" -type f -exec chmod $mode {} + && place "files-$kind" || exit 1
done
