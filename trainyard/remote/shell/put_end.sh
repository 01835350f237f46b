# Give a big file its name once it is whole.
: "${path?}" "${part?}" "${sha256?}" "${mode?}" "${stale?}"
. ./keep_mode.sh
. ./sha.sh
sum=$(cat "$part.sum" 2>/dev/null)  # made while it was sent, if it could be
[ "${sum%% *}" = "$sha256" ] || sum=$(sha <"$part") || exit 1
[ "${sum%% *}" = "$sha256" ] || { rm -f "$part" "$part".*; echo "$path arrived with another sha256 (did it change while it was sent?)" >&2; exit 1; }
chmod "$mode" "$part" && mv -f "$part" "$path" || exit 1
rm -f "$stale"*
