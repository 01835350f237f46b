# End what was begun by commands that hold $first$second, and say what is left of it: "ended", "running" or "unknown"; or, unless
# $alone is 1, "others" where another user must end it: root sees and ends what we do not.
: "${first?}" "${second?}" "${patience?}" "${alone?}"
# One grep for all of them: a program for each takes seconds on a busy host. It has the nonce on its stdin, for its own
# command line is among those that it reads.
# shellcheck disable=SC2062 # names of files
meant=$(printf %s "$first$second" | grep -lF -f - /proc/[0-9]*/cmdline 2>/dev/null | tr -dc '0-9\n' | tr '\n' ' ')
# Add to $meant what it has begun: the whole group where it leads one, and its children, if not in a session of their own, for
# then they are to outlive it; all of sudo's, which may give what it runs a terminal. Dropbear gives all commands of a
# connection its own group, so no group of others is touched.
look() {
    # shellcheck disable=SC2016 # for awk
    living=$(cat /proc/[0-9]*/stat 2>/dev/null | awk -v meant="$meant" '
        { pid = $1; way[pid] = $2 ~ /^\((sudo|doas|su)\)$/; sub(/.*\) /, ""); state[pid] = $1; parent[pid] = $2; group[pid] = $3; session[pid] = $4 }
        function take(pid) { taken[pid] = 1; if (group[pid] == pid) whole[pid] = 1 }
        END {
            for (i = split(meant, first, " "); i; i--) if (first[i] in state) take(first[i])
            do {
                fresh = 0
                for (pid in state) if (!(pid in taken)) {
                    from = parent[pid]
                    if ((group[pid] in whole) || ((from in taken) && (session[pid] == session[from] || way[from]))) { take(pid); fresh = 1 }
                }
            } while (fresh)
            for (pid in taken) if (state[pid] !~ /[ZX]/) printf "%s ", pid
            print "."
        }')
    case $living in *.) living=${living%.} meant="$meant$living" ;; *) echo unknown; exit 0 ;; esac
}
hidden() { [ "$(id -u)" != 0 ] && ! cat /proc/1/stat >/dev/null 2>&1 && { command -v sudo || command -v doas; } >/dev/null; }
of_others() {
    for pid in $living; do
        # shellcheck disable=SC3067 # -O: dash, bash and busybox know it
        [ -O "/proc/$pid" ] || [ ! -e "/proc/$pid" ] || return 0
    done
    return 1
}
look
if [ "$alone" = 0 ] && { hidden || { [ "$(id -u)" != 0 ] && of_others; }; }; then echo others; exit 0; fi
for signal in TERM KILL; do
    # shellcheck disable=SC2086 # numbers
    [ -z "$living" ] || kill -s $signal -- $living 2>/dev/null
    look
    while [ -n "$living" ] && [ "$patience" -gt 0 ]; do patience=$((patience - 1)); sleep 0.1 2>/dev/null || sleep 1; look; done
    patience=3
done
if [ -n "$living" ]; then echo running; elif hidden; then echo unknown; else echo ended; fi
