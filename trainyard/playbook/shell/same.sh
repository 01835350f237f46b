# Say whether a file is the one that would be put there: absent, same or differs.
: "${path?}" "${sha256?}" "${mode?}"
[ -e "$path" ] || { echo absent; exit 0; }
[ -f "$path" ] || { echo "$path is not a file" >&2; exit 1; }
sum=$(sha256sum <"$path") || exit 1
[ "${sum%% *}" = "$sha256" ] && [ -n "$(find "$path" -prune -perm "$mode")" ] && echo same || echo differs
