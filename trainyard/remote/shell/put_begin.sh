# Say what is there of a big file: "same", "mode" (only that was wrong), or the hashes of the slices that an interrupted
# transfer left.
: "${path?}" "${folder?}" "${part?}" "${size?}" "${sha256?}" "${mode?}" "${blocksize?}" "${slicesize?}" "${stale?}"
. ./keep_mode.sh
. ./sha.sh
[ ! -d "$path" ] || { echo "$path is a directory" >&2; exit 1; }
if [ -f "$path" ] && [ "$(wc -c <"$path")" -eq "$size" ] && sum=$(sha <"$path") && [ "${sum%% *}" = "$sha256" ]; then
  rm -f "$stale"*  # it came by another way after a transfer was cut off
  [ -n "$(find "$path" -prune -type f -perm "$mode")" ] && { echo same; exit 0; }
  chmod "$mode" "$path" && echo mode; exit
fi
mkdir -p "$folder" || exit 1
umask 077
rm -f "$part".*
: >>"$part" || exit 1
have=$(($(wc -c <"$part") / blocksize)) slice=0
while [ $((slice * slicesize)) -lt $((have * blocksize)) ]; do
  dd if="$part" bs="$blocksize" skip=$((slice * slicesize / blocksize)) count=$((slicesize / blocksize)) 2>/dev/null | sha
  slice=$((slice + 1))
done
