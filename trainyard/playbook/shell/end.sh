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
found=$(groups | tr '\n' ' ')
[ -n "$found" ] || { echo ended; exit 0; }
# Not asked by signal 0: who became another user cannot be signalled by us, and lives.
alive() {
    whose=$1
    for stat in /proc/[0-9]*/stat; do
        { read -r line <"$stat"; } 2>/dev/null || continue
        # shellcheck disable=SC2086 # the words behind the name
        set -- ${line##*) }
        # shellcheck disable=SC3067 # -O: dash, bash and busybox know it
        case "$1 $found" in Z* | X*) ;; *" $3 "*) if [ "$whose" = all ] || [ ! -O "${stat%/stat}" ]; then return 0; fi ;; esac
    done
    return 1
}
kill_all() {
    for group in $found; do kill -s "$1" -- "-$group"; done 2>/dev/null
    if [ "$(id -u)" = 0 ] || ! alive others; then return 0; fi
    for way in sudo doas; do
        # shellcheck disable=SC2016,SC2086 # for the inner shell; the groups are words
        ! command -v $way >/dev/null || $way -n sh -c 's=$1; shift; for group; do kill -s "$s" -- "-$group"; done' sh "$1" $found
    done >/dev/null 2>&1
}
kill_all TERM
while alive all && [ "$patience" -gt 0 ]; do patience=$((patience - 1)); sleep 0.1 2>/dev/null || sleep 1; done
! alive all || kill_all KILL
sleep 0.1 2>/dev/null || sleep 1
if alive all; then echo running; else echo ended; fi
