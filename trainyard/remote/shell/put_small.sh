# Make $path hold what comes on stdin, whole or not at all; says "changed" when it did.
: "${path?}" "${folder?}" "${part?}" "${size?}" "${mode?}" "${keep?}"
[ ! -d "$path" ] || { echo "$path is a directory" >&2; exit 1; }
mkdir -p "$folder" || exit 1
umask 077
trap 'rm -f "$part"' EXIT
cat >"$part" || exit 1
[ "$(wc -c <"$part")" -eq "$size" ] || { echo "$path did not arrive whole" >&2; exit 1; }
if [ "$keep" -eq 1 ] && [ -f "$path" ]; then
  cmp -s "$part" "$path" && exit 0
  mode=$(stat -L -c %a "$path") || exit 1
elif [ -n "$(find "$path" -prune -type f -perm "$mode" 2>/dev/null)" ] && cmp -s "$part" "$path"; then exit 0; fi
chmod "$mode" "$part" && mv -f "$part" "$path" && echo changed
