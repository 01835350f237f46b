# Give the machine its name, now and after it begins anew.
: "${name?}"
. ./answer.sh
say name "$name"
[ "$(uname -n)" = "$name" ] && [ "$(cat /etc/hostname 2>/dev/null)" = "$name" ] && exit 0
change
if [ -d /run/systemd/system ] && command -v hostnamectl >/dev/null 2>&1; then
  hostnamectl set-hostname --static --transient -- "$name" </dev/null || exit 1
else
  { hostname -- "$name" && printf '%s\n' "$name" >/etc/hostname; } || fail "the name cannot be given (a container has its from outside)"
fi
