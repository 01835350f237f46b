# Say name and size of each of the small files $reports, then its bytes.
: "${output?}" "${reports?}" "${most?}"
cd "$output" || exit 0
for name in $reports; do
  [ -f "$name" ] && [ ! -L "$name" ] && size=$(($(wc -c <"$name"))) && [ "$size" -le "$most" ] && echo "$name $size" && cat "$name"
done
:
