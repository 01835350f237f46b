# Write stdin into a big file's parts, from a block on.
: "${part?}" "${blocksize?}" "${block?}"
said=$(dd of="$part" bs="$blocksize" seek="$block" conv=notrunc 2>&1) || { echo "$said" >&2; exit 1; }
