# Take the mode of the file that is there, when it is to be kept; put before what uses $mode.
: "${path?}" "${keep?}"
# shellcheck disable=SC2034 # for what follows
[ "$keep" -eq 0 ] || [ ! -f "$path" ] || mode=$(stat -L -c %a "$path") || exit 1
