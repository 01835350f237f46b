#!/bin/sh
# First process of a pod: the watchdog, the host key, then, without the pod's own keys, sshd. It never exits by itself.
#
# Environment: SSH_HOST_ED25519_KEY (base64 of an OpenSSH private key, for this pod alone), PUBLIC_KEY, the watchdog's
# variables. TRAINYARD_ROOT and TRAINYARD_SSHD are for tests.
root=${TRAINYARD_ROOT:-}
ssh=$root/etc/ssh
home=$root/root

say() { echo "entrypoint: $*"; }

# A cloud without SSH (Modal) starts its own command through this entrypoint, and what that sends keeps the lease.
if [ $# -gt 0 ] && [ "$1" != keyless ]; then exec "$@"; fi

umask 077
if [ "${1:-}" != keyless ]; then
    # 1. The lease is kept from the first second, whatever happens below.
    python3 "$root/opt/trainyard/watchdog.py" </dev/null || say "the watchdog did not start: this pod can be ended only from outside"

    # 2. One host key: the one that the create request brought, so that it is known before the pod exists.
    mkdir -p "$ssh" "$root/run/sshd" "$home/.ssh"
    rm -f "$ssh"/ssh_host_*
    key=$ssh/ssh_host_ed25519_key
    if [ -n "${SSH_HOST_ED25519_KEY:-}" ] && printf %s "$SSH_HOST_ED25519_KEY" | base64 -d >"$key" && ssh-keygen -y -f "$key" >"$key.pub"; then
        say "host key injected: $(ssh-keygen -lf "$key.pub")"
    else
        rm -f "$key" "$key.pub"
        ssh-keygen -q -t ed25519 -N '' -C '' -f "$key"
        say "host key made here, nobody knew it before: $(ssh-keygen -lf "$key.pub")"
    fi

    # 3. On without the pod's own keys: what starts anew here is the container's process 1, whose /proc/1/environ
    #    people read, and an init that reaps what the training leaves behind.
    init=$(command -v tini) && init="$init --"
    # shellcheck disable=SC2046,SC2086 # several words, or none
    exec env -u SSH_HOST_ED25519_KEY -u RUNPOD_API_KEY -u CONTAINER_API_KEY -u JUPYTER_PASSWORD \
        $(for name in ${TRAINYARD_POD_KEYS:-}; do printf ' -u %s' "$name"; done) $init sh "$0" keyless
fi

# 4. Who may log in, and what a session sees: the pod's variables.
printf '%s\n' "${PUBLIC_KEY:-}" >"$home/.ssh/authorized_keys"
[ -n "${PUBLIC_KEY:-}" ] || say "PUBLIC_KEY is empty: nobody can log in"
# A value of several lines cannot be handed over this way; half of one would be worse.
env -0 | grep -zE '^[A-Za-z_][A-Za-z0-9_]*=' | grep -zvP '\n' |
    grep -zvE '^(HOME|PWD|OLDPWD|SHLVL|_)=' | tr '\0' '\n' >"$home/.ssh/environment"
umask 022

# 5. sshd, started again when it dies. On TERM (a spot machine is taken away) the job gets the chance to save.
stop() {
    say "TERM: asking the job to save"
    pid=$(cat "${WORKSPACE:-/workspace}/job/pid" 2>/dev/null) && kill -s TERM -- "-$pid" 2>/dev/null
}
trap stop TERM INT HUP
while :; do
    "${TRAINYARD_SSHD:-/usr/sbin/sshd}" -D -e -f "$root/opt/trainyard/sshd_config" &
    daemon=$!
    while kill -0 "$daemon" 2>/dev/null; do wait "$daemon"; done
    say "sshd ended; it is started again"
    sleep 1
done
