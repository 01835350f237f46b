# Run programs one after the other, each between two marks of its own on each stream, up to the first that fails.
# $a and $b are the halves of a nonce. The programs stand first in the input ($bytes, a call of p each), where no ps shows them and
# no command line is too short for them; behind them what belongs to each one's stdin, in turn. dd takes exactly as much, for a
# program that reads less must leave nothing to the next. The trap is as in frame.sh.
: "${a?}" "${b?}" "${bytes?}"
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
# Where dd cannot do that nothing is run, and each program is sent by itself then. Half of them, cut with the link, are none.
programs=$(dd bs="$bytes" count=1 iflag=fullblock 3>&-)
case $programs in *"$a") eval "$programs" ;; esac
