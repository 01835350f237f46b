# Write stdin into a big file's parts: lines that say from which block on how many blocks follow, and these behind each.
: "${part?}" "${blocksize?}"
umask 077
while read -r block count; do
  said=$(dd of="$part" bs="$blocksize" seek="$block" count="$count" iflag=fullblock conv=notrunc 2>&1) || { echo "$said" >&2; exit 1; }
done
