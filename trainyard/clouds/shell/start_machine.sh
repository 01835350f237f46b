# A machine's own disk, for the user who logs in and for the watchdog, which is root's.
( umask 0; mkdir -p "${WORKSPACE?}/.trainyard/watchdog" )
# Not in /tmp: what root runs from there, others may have laid there first.
[ -n "$TMPDIR" ] || { mkdir -p -m 700 /run/trainyard && export TMPDIR=/run/trainyard; }
umask 022
