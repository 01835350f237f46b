# Give what has the names on stdin (each ended by NUL) below a folder its mode, owner and group, as $own does it.
: "${top?}" "${own?}" "${diff?}" "${mode?}" "${owner?}" "${group?}" "${recurse?}"
. ./answer.sh
cd "$top" 2>/dev/null || { [ "$check" -eq 1 ] && exit 0; exit 1; }
export check diff mode owner group recurse own
# shellcheck disable=SC2016 # the inner sh expands it
xargs -0 sh -c 'changed() { printf "changed?1\0" >&3; }
eval "$own"
own "$@"' sh
