# Say what lies below folders: the time, then for each path its name, a line of numbers, and the hash of a file if asked, or "-" if it
# does not hold what is looked for; each word ended by NUL. $tests are words of find.
: "${paths?}" "${options?}" "${tests?}" "${contains?}" "${hash?}"
export options contains hash
printf '%s\0' "$(date +%s)"
eval "set -- $paths"
for path; do
  [ -d "$path" ] || { printf '%s: is not a folder\n' "$path" >&2; continue; }
  # shellcheck disable=SC2016,SC2086 # the inner sh expands it; words of find
  find $options "$path" $tests -exec sh -c 'for f; do
    line=$(stat ${options:+-L} -c "%f %u %g %s %i %d %h %X %Y %Z %U %G" "$f") || continue
    sum=
    if [ -n "$contains" ] && { [ ! -f "$f" ] || ! grep -qsE -e "^($contains)" "$f"; }; then sum=-
    elif [ -n "$hash" ] && [ -f "$f" ]; then sum=$("${hash}sum" <"$f"); fi
    printf "%s\0%s\0%s\0" "$f" "$line" "${sum%% *}"
  done' sh {} +
done
