# Say the content of a file of at most $limit bytes behind a "+", or "-" where there is none.
: "${path?}" "${limit?}"
case $path in /*) ;; *) path=./$path ;; esac
[ -e "$path" ] || { printf -; exit 0; }
[ -f "$path" ] || { echo "${path#./} is not a file" >&2; exit 1; }
size=$(wc -c <"$path") || exit 1
[ "$size" -le "$limit" ] || { echo "$path has $size bytes: more than $limit are not changed line by line" >&2; exit 1; }
printf + && cat "$path"
