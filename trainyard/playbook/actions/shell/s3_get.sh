# Fetch what the address on stdin leads to beside its place, and prove it; a second try goes on where the first was cut off.
: "${path?}" "${name?}" "${into?}" "${size?}" "${md5?}" "${sha256?}"
. ./answer.sh
umask 077
IFS= read -r url || [ -n "$url" ] || fail "no address came"
if [ -n "$name" ] && { [ "$into" -eq 1 ] || [ -d "$path" ]; }; then path=${path%/}/$name; fi
folder=${path%/*}
folder=${folder:-/}
if [ ! -d "$folder" ]; then
  [ "$into" -eq 1 ] || fail "there is no folder $folder (make it by 'file' with 'state: directory')"
  mkdir -p "$folder" || exit 1
fi
part="$folder/.s3-$(printf %s "$path $size $md5" | cksum | cut -d ' ' -f 1)"
: >>"$part" || exit 1
[ "$(wc -c <"$part")" -le "$size" ] || : >"$part"
if [ "$(wc -c <"$part")" -lt "$size" ]; then
  if command -v curl >/dev/null; then
    printf 'url = "%s"\n' "$url" | curl -fsS -L --connect-timeout 20 --speed-time 60 --speed-limit 1 --retry 3 -C - -o "$part" -K - ||
      { code=$?; [ $code -ne 33 ] || rm -f "$part"; fail "curl could not fetch it (exit code $code)"; }
  elif wget --version 2>/dev/null | grep -q GNU; then
    printf '%s\n' "$url" | wget -q -T 60 -i - -O "$part" || fail "wget could not fetch it (exit code $?)"
  else fail "neither curl nor GNU wget is on this host"; fi
fi
there=$(wc -c <"$part")
[ "$there" -eq "$size" ] || fail "$there bytes of $size arrived"
prove() {
  [ -z "$2" ] || { sum=$("$1" <"$part") && [ "${sum%% *}" = "$2" ]; } || { rm -f "$part"; fail "what arrived has another hash ($1)"; }
}
prove md5sum "$md5"
prove sha256sum "$sha256"
say part "$part"
