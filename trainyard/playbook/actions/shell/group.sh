# Make a group be there with its number, or be gone.
: "${name?}" "${state?}" "${gid?}" "${system?}" "${non_unique?}"
. ./answer.sh
needs groupadd "install it first ('package: {name: shadow}')"
number() { grep -m 1 "^$name:" /etc/group | cut -d: -f3; }
say name "$name"
say state "$state"
is=$(number)
if [ "$state" = absent ]; then
  [ -z "$is" ] || { change; groupdel -- "$name"; } || exit 1
  exit 0
fi
set --
[ -z "$gid" ] || set -- -g "$gid"
[ "$non_unique" = 0 ] || set -- -o "$@"
if [ -z "$is" ]; then
  change
  [ "$system" = 0 ] || set -- "$@" -r
  groupadd "$@" -- "$name" || exit 1
elif [ -n "$gid" ] && [ "$gid" != "$is" ]; then
  change
  groupmod "$@" -- "$name" || exit 1
fi
say_number gid "$(number)"
