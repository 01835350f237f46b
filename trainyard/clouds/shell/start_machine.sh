# A machine's own disk, for the user who logs in and for the watchdog, which is root's. What follows the last line is one command.
workspace=${1:-/workspace}
( umask 0; mkdir -p "$workspace/.trainyard/watchdog" )
# Not in /tmp: what root runs from there, others may have laid there first.
[ -n "$TMPDIR" ] || { ( umask 077; mkdir -p /run/trainyard ) && TMPDIR=/run/trainyard; }
umask 022
exec env -i PATH="$PATH" TMPDIR="$TMPDIR" WORKSPACE="$workspace" \
