# Which packages there are: name, version and architecture, by tabs.
. ./answer.sh
tab=$(printf '\t')
of_apt() { dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n' | sed -n "s/^installed$tab//p"; }
of_rpm() { rpm -qa --qf '%{name}\t%{version}-%{release}\t%{arch}\n'; }
of_apk() { apk info -v 2>/dev/null | sed "s/-\([^-]*-r[0-9]*\)\$/$tab\1/"; }
asked=
# Another's tool may be there, too (busybox has an rpm): the machine's manager is the one that knows packages.
for each in dpkg-query:apt rpm:rpm apk:apk; do
  command -v "${each%:*}" >/dev/null 2>&1 || continue
  asked=${each#*:}
  packages=$("of_$asked")
  [ -z "$packages" ] || break
done
[ -n "$asked" ] || fail "this machine has neither dpkg, rpm nor apk to ask"
say manager "$asked"
printf '%s' "${packages:+$packages
}" | while IFS= read -r line; do say_item packages "$line"; done
