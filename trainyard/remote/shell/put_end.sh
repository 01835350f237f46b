# Give a big file its name once it is whole.
: "${path?}" "${part?}" "${sha256?}" "${mode?}" "${stale?}"
. ./keep_mode.sh
. ./sha.sh
sum=$(sha <"$part") || exit 1
[ "${sum%% *}" = "$sha256" ] || { rm -f "$part"; echo "$path arrived with another sha256 (did it change while it was sent?)" >&2; exit 1; }
chmod "$mode" "$part" && mv -f "$part" "$path" || exit 1
rm -f "$stale"*
