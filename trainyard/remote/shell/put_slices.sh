# Write stdin into a big file's parts: lines that say from which block on how many blocks follow, and these behind each.
# The first of those who write begins to hash what they tell to be there, in the order of the file, and stays until nobody writes
# any more: at the end of the transfer the hash is there, too.
: "${part?}" "${blocksize?}"
umask 077
told=
while read -r block count; do
  if [ -z "$told" ]; then
    told=$part.told begins=
    mkfifo "$told" 2>/dev/null && begins=yes
    [ -p "$told" ] || told=/dev/null
    exec 3<>"$told"
    [ -z "$begins" ] || (
      exec 3<"$told"  # no writer any more, but opened while there was one
      . ./sha.sh
      at=0 ready=' '
      while read -r first blocks; do
        ready="$ready$first:$blocks "
        while rest=${ready#*" $at:"} && [ "$rest" != "$ready" ]; do
          dd if="$part" bs="$blocksize" skip="$at" count="${rest%% *}" 2>/dev/null || exit
          at=$((at + ${rest%% *}))
        done
      done <&3 | sha >"$part.sum"
    ) >/dev/null 2>&1 &
  fi
  said=$(dd of="$part" bs="$blocksize" seek="$block" count="$count" iflag=fullblock conv=notrunc 2>&1) || { echo "$said" >&2; exit 1; }
  echo "$block $count" >&3
done
exec 3>&-
wait
