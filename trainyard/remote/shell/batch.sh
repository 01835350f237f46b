# Run programs one after the other, each between two marks of its own on each stream, up to the first that fails.
# $a and $b are the halves of a nonce. What belongs to a program's stdin lies behind what belongs to that of the one before:
# dd takes exactly as much, for a program that reads less must leave nothing to the next. The trap is as in frame.sh.
: "${a?}" "${b?}" "${fed?}"
# Without such a dd nothing is run here: each program is sent by itself then.
[ "$fed" -eq 0 ] || dd bs=1 count=1 iflag=fullblock </dev/null >/dev/null 2>&1 || exit 0
trap : TERM INT HUP QUIT
exec 3>&2 2>/dev/null
m() { printf '\036%s%s%s.%s\n' "$a" "$b" "$@" || exit; }
p() {
  m "$1" o
  m "$1" e >&3
  if [ "$2" -eq 0 ]; then (sh -c "$3" 2>&3 3>&- </dev/null); else
    dd bs="$2" count=1 iflag=fullblock 3>&- | (sh -c "$3" 2>&3 3>&-)
  fi
  r=$?
  m "$1" "x$r"
  m "$1" "y$r" >&3
  [ "$r" -eq 0 ] || exit 0
}
