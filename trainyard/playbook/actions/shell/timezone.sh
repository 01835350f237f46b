# Give the machine its time zone.
: "${name?}"
. ./answer.sh
[ -f "/usr/share/zoneinfo/$name" ] || lacking "there is no time zone $name here (is the package tzdata installed?)"
is=$(readlink -f /etc/localtime 2>/dev/null)
[ "${is#/usr/share/zoneinfo/}" != "$name" ] || exit 0
[ ! -f /etc/localtime ] || [ -L /etc/localtime ] || ! cmp -s /etc/localtime "/usr/share/zoneinfo/$name" || exit 0
change
ln -sf "/usr/share/zoneinfo/$name" /etc/localtime.new && mv -f -T /etc/localtime.new /etc/localtime || exit 1
[ ! -e /etc/timezone ] || printf '%s\n' "$name" >/etc/timezone || exit 1
