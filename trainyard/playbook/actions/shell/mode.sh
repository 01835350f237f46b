# Give $path its mode, if one is asked for and it has another.
: "${path?}" "${mode?}"
[ -z "$mode" ] || [ -n "$(find -H "$path" -prune -perm "$mode")" ] || { change; chmod "$mode" "$path" || exit 1; }
