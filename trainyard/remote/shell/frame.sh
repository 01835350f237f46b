# Run $3 between two marks on each stream, which hold the halves of a nonce ($1, $2) and at last the exit code.
# A login shell must pass this on as one word, and sh, fish and csh must read it alike: no single quote, no "!", no
# backslash at the end of a line. Lines are joined by a space, so each ends as a command does.
# The trap keeps this sh alive when the command signals its whole group; the command's own sh may be killed, its code
# is still told, and what this sh would say of that ("Killed") is not the command's word.
m() { printf "\036%s%s.%s\n" "$@"; };
trap : TERM INT HUP QUIT;
a=$1 b=$2;
m "$a" "$b" o;
m "$a" "$b" e >&2;
exec 3>&2 2>/dev/null;
(sh -c "$(printf %b "$3")" 2>&3 3>&-);
r=$?;
m "$a" "$b" "x$r";
m "$a" "$b" "y$r" >&3
