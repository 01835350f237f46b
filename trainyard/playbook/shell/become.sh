# Run $command as $user: as it is when that is who we are, else by $method, which must ask nobody for a password.
# That the way is closed is said by $nonce at the end of stderr, for any exit code may be the command's own; behind it stand this
# login's name and what is missing: a terminal, or the right.
: "${command?}" "${user?}" "${method?}" "${nonce?}"
[ "$(id -un)" != "$user" ] && [ "$(id -u)" != "$user" ] || exec sh -c "$command"
case $user in *[!0-9]*) named=$user ;; *) named="#$user" ;; esac
if [ "$(id -u)" != 0 ]; then
    [ "$method" != su ] || { printf 'su asks for a password: use sudo%s%s right' "$nonce" "$(id -un)" >&2; exit 1; }
elif [ "$method" = sudo ] && ! command -v sudo >/dev/null; then
    method=su
fi
become() {
    case $method in
        sudo) sudo -n -H -u "$named" -- sh -c "$1" ;;
        doas) doas -n -u "$user" sh -c "$1" ;;
        su) su -s /bin/sh "$user" -c "$1" ;;
    esac
}
become "$command"
code=$?
[ "$code" = 0 ] || become : </dev/null >/dev/null 2>&1 || {
    missing=right
    [ "$method" != sudo ] || ! script -qec "sudo -n -u '$named' true" /dev/null </dev/null >/dev/null 2>&1 || missing=terminal
    printf '%s%s %s' "$nonce" "$(id -un)" "$missing" >&2
}
exit "$code"
