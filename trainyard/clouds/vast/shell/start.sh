# At the start of an instance, when Vast.ai's own entrypoint has set up SSH: sessions' variables, who may log in, the host key.
: "${hide?}"
if [ -z "$TRAINYARD_SSH_READY" ]; then
  root=${TRAINYARD_ROOT:-}
  ssh=$root/etc/ssh
  home=$root/root
  mkdir -p "${WORKSPACE:-/workspace}" "$ssh" "$root/run/sshd" "$home/.ssh"
  touch "$home/.no_auto_tmux"
  # Sessions have none of the container's variables else. A line that is too long would hide those after it.
  env -0 | grep -zE '^[A-Za-z_][A-Za-z0-9_]*=' | grep -zvP '\n' | grep -zvE "^($hide)=" | grep -zvE '^.{1000}' | tr '\0' '\n' >>"$root/etc/environment"
  if [ -n "$PUBLIC_KEY" ]; then
    ( umask 077; printf '%s\n' "$PUBLIC_KEY" >>"$home/.ssh/authorized_keys" )
  fi
  if [ -n "$SSH_HOST_ED25519_KEY" ]; then
    rm -f "$ssh"/ssh_host_*
    ( umask 077; printf %s "$SSH_HOST_ED25519_KEY" | base64 -d >"$ssh/ssh_host_ed25519_key" )
    # The server that runs already reads its keys anew; where none runs, one is started, without the pod's own keys.
    pid=$(cat "$root/run/sshd.pid" 2>/dev/null) || [ -n "$root" ] || pid=$(grep -slx sshd /proc/[0-9]*/comm | cut -d/ -f3 | sort -n | head -n 1)
    if [ -n "$pid" ] && kill -HUP "$pid" 2>/dev/null; then :; else
      env -u SSH_HOST_ED25519_KEY -u CONTAINER_API_KEY -u TRAINYARD_START "${TRAINYARD_SSHD:-/usr/sbin/sshd}" -o PasswordAuthentication=no
    fi
  fi
fi
