# Scripts of /etc/init.d, those of OpenRC among them. Masks are systemd's alone.
: "${name?}" "${none?}"
program=/etc/init.d/$name
by=script
if command -v rc-service >/dev/null 2>&1; then by=openrc; fi
exists() { [ -x "$program" ] || lacking "$none; nor is there $program"; }
is_masked() { echo 0; }
set_masked() { fail "$none"; }
is_running() { "$program" status </dev/null >/dev/null 2>&1; }
is_enabled() {
  if [ $by = openrc ]; then rc-update show 2>/dev/null | grep -q "^ *$name |" && echo 1 || echo 0
  else
    for each in /etc/rc[2345].d/S??"$name"; do [ -e "$each" ] && echo 1 && return; done
    echo 0
  fi
}
set_enabled() {
  if [ $by = openrc ]; then rc-update "$([ "$1" = 1 ] && echo add || echo del)" "$name"
  elif command -v update-rc.d >/dev/null 2>&1; then
    update-rc.d "$name" defaults && update-rc.d "$name" "$([ "$1" = 1 ] && echo enable || echo disable)"
  elif command -v chkconfig >/dev/null 2>&1; then chkconfig "$name" "$([ "$1" = 1 ] && echo on || echo off)"
  else fail "nothing on this machine makes $name begin with it"; fi
}
act() { "$program" "$1" </dev/null; }
