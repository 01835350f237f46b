# Say of each file in a folder its name and its size, each behind it a NUL, and its content; all together at most $limit bytes.
: "${src?}" "${limit?}"
[ -d "$src" ] || { [ ! -e "$src" ] || { echo "$src is not a folder" >&2; exit 1; }; echo "there is no folder $src" >&2; exit 1; }
cd "$src" || exit 1
all=0
for each in ./* ./.[!.]* ./..?*; do
  [ -f "$each" ] || continue
  size=$(wc -c <"$each") || exit 1
  all=$((all + size))
  [ "$all" -le "$limit" ] || { echo "$src holds more than $limit bytes, which are not put together" >&2; exit 1; }
  printf '%s\0%d\0' "${each#./}" "$size"
  cat "$each" || exit 1
done
