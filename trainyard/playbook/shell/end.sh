# End the process groups of commands that hold $first$second, and say what is left of them: "ended", "running" or "unknown".
: "${first?}" "${second?}" "${patience?}"
[ -r /proc/self/stat ] || { echo unknown; exit 0; }
groups() {
    # One grep for all of them: a program for each takes seconds on a busy host. It has the nonce on its stdin, for its own
    # command line is among those that it reads.
    # shellcheck disable=SC2062 # names of files
    for file in $(printf %s "$first$second" | grep -lF -f - /proc/[0-9]*/cmdline); do
        read -r line <"${file%/cmdline}/stat" || continue
        # Behind the name, which may hold anything: state, parent, group.
        # shellcheck disable=SC2086 # three words
        set -- ${line##*) }
        echo "$3"
    done 2>/dev/null | sort -u
}
found=$(groups)
[ -n "$found" ] || { echo ended; exit 0; }
kill_all() { for group in $found; do kill -s "$1" -- "-$group"; done 2>/dev/null; }
alive() { for group in $found; do kill -s 0 -- "-$group" 2>/dev/null && return 0; done; return 1; }
kill_all TERM
while alive && [ "$patience" -gt 0 ]; do patience=$((patience - 1)); sleep 0.1 2>/dev/null || sleep 1; done
kill_all KILL
sleep 0.1 2>/dev/null || sleep 1
if alive; then echo running; else echo ended; fi
