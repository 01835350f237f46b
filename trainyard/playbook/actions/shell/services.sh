# Make a service run, stop, and begin with the machine: by systemd where that runs, else by the scripts of /etc/init.d.
: "${name?}" "${state?}" "${enabled?}" "${masked?}" "${reload?}" "${reexec?}" "${scope?}" "${pause?}" "${no_block?}" "${force?}"
: "${only?}" "${scripts?}"
. ./answer.sh
[ -z "$name" ] || say name "$name"
none="systemd does not run on this machine (a container?): start the program by 'job: {start: FOLDER, command: ...}'"
if [ "$scripts" = 0 ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then
  . ./services_systemd.sh
else
  [ "$only" = 0 ] || fail "$none"
  . ./services_scripts.sh
fi
if [ -n "$masked" ] && [ "$masked" != "$(is_masked)" ]; then changed; [ "$check" = 1 ] || set_masked "$masked" || exit 1; fi
[ -n "$enabled$state" ] || exit 0
exists || lacking "there is no service $name"
if [ -n "$enabled" ]; then
  say_flag enabled "$enabled"
  [ "$enabled" = "$(is_enabled)" ] || { changed; [ "$check" = 1 ] || set_enabled "$enabled" || exit 1; }
fi
case $state in
  started) is_running || { changed; [ "$check" = 1 ] || act start || exit 1; } ;;
  stopped) ! is_running || { changed; [ "$check" = 1 ] || act stop || exit 1; } ;;
  restarted)
    changed
    if [ "$check" = 0 ]; then
      if [ -n "$pause" ]; then { ! is_running || act stop; } && sleep "$pause" && act start; else act restart; fi || exit 1
    fi ;;
  reloaded)
    changed
    # What does not run has nothing to read anew.
    if [ "$check" = 0 ]; then if is_running; then act reload; else act start; fi || exit 1; fi ;;
esac
[ -z "$state" ] || say state "$(case $state in stopped) echo stopped ;; *) echo started ;; esac)"
