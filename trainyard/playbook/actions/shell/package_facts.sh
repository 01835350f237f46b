# Which packages there are: name, version and architecture, by tabs.
. ./answer.sh
tab=$(printf '\t')
list() { while IFS= read -r line; do say_item packages "$line"; done; }
if command -v dpkg-query >/dev/null 2>&1; then
  say manager apt
  dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n' | sed -n "s/^installed$tab//p" | list
elif command -v rpm >/dev/null 2>&1; then
  say manager rpm
  rpm -qa --qf '%{name}\t%{version}-%{release}\t%{arch}\n' | list
elif command -v apk >/dev/null 2>&1; then
  say manager apk
  apk info -v 2>/dev/null | sed "s/-\([^-]*-r[0-9]*\)\$/$tab\1/" | list
else
  fail "this machine has neither dpkg, rpm nor apk to ask"
fi
