# What this program says of itself goes to its stdout, each word ended by a NUL; what tools print goes to stderr, for the message.
# shellcheck disable=SC2329 # each program calls those it needs
: "${check?}"
exec 3>&1 1>&2
say() { printf '%s=%s\0' "$1" "$2" >&3; }
say_number() { printf '%s#%s\0' "$1" "$2" >&3; }
say_flag() { printf '%s?%s\0' "$1" "$2" >&3; }
say_item() { printf '%s*%s\0' "$1" "$2" >&3; }
changed() { say_flag changed 1; }
# With $check nothing else is done.
change() { changed; [ "$check" -eq 1 ] && exit 0; return 0; }
fail() { printf '%s\n' "$*" >&2; exit 1; }
# In a run that only checks, an earlier task may be the one to bring what this one needs.
lacking() { [ "$check" -eq 0 ] || change; fail "$*"; }
needs() { command -v "$1" >/dev/null 2>&1 || lacking "this machine has no $1: $2"; }
# End where something else than a file lies at a path that shall be one.
no_other() {
  if [ -d "$1" ]; then fail "$1 is a folder, not a file"
  elif [ -p "$1" ]; then fail "$1 is a pipe, not a file"
  elif [ -e "$1" ] && [ ! -f "$1" ]; then fail "$1 is a device or a socket, not a file"
  elif [ -L "$1" ] && [ ! -e "$1" ]; then fail "$1 is a link that leads nowhere"; fi
}
