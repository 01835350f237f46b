# Say what is at $path and, where it is a file, what it holds: a first line, its bytes from block $have on, its hash. The first line
# is the kind, the size, what tells it from one that lies there at another time, and the block. Nothing is sent of a file
# of $size bytes with the hash $mine.
: "${path?}" "${known?}" "${version?}" "${have?}" "${size?}" "${mine?}" "${blocksize?}"
. ./sha.sh
if [ -d "$path" ]; then echo folder; exit 0; fi
if [ -p "$path" ]; then echo pipe; exit 0; fi
if [ ! -e "$path" ]; then echo absent; exit 0; fi
there=$(wc -c <"$path") || exit 1
now=$known
[ -n "$now" ] || now=$(stat -L -c %Y.%i "$path") || exit 1
if [ "$there" -eq "$size" ]; then
  sum=$(sha <"$path") || exit 1
  sum=${sum%% *}
  [ "$sum" != "$mine" ] || { echo "same $there $now 0"; echo "$sum"; exit 0; }
fi
[ "$version" = "$now" ] && [ $((have * blocksize)) -le "$there" ] || have=0
echo "file $there $now $have"
exec 3>&1
# Hashed while it is sent. A file that grows is sent as far as was said.
sum=$(
  sha <"$path" &
  dd if="$path" bs="$blocksize" skip="$have" count=$(((there + blocksize - 1) / blocksize - have)) iflag=fullblock 2>/dev/null >&3 || exit 1
  wait $! || exit 1
) || exit 1
echo "${sum%% *}"
