# Make a file or a folder of this name, which must not be there.
: "${folder?}" "${name?}" "${state?}"
. ./answer.sh
path="${folder:-${TMPDIR:-/tmp}}/$name"
say path "$path"; say state "$state"
change
umask 077
if [ "$state" = directory ]; then mkdir -- "$path" || exit 1
else set -C; : >"$path" || exit 1; fi
say_number uid "$(id -u)"; say_number gid "$(id -g)"
say mode "$([ "$state" = directory ] && echo 0700 || echo 0600)"
