# Where an image starts no SSH server by itself: one with the host key that the create request brought.
: "${hide?}"
if [ -z "$TRAINYARD_SSH_READY" ] && [ -n "$SSH_HOST_ED25519_KEY" ]; then
  command -v sshd >/dev/null || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y openssh-server; } >/dev/null 2>&1
  mkdir -p /etc/ssh /run/sshd ~/.ssh && rm -f /etc/ssh/ssh_host_*
  ( umask 077; echo "$SSH_HOST_ED25519_KEY" | base64 -d > /etc/ssh/ssh_host_ed25519_key; echo "$PUBLIC_KEY" >> ~/.ssh/authorized_keys )
  # shellcheck disable=SC2086 # several words
  [ -x /start.sh ] || env $hide "$(command -v sshd)" -o PasswordAuthentication=no -o HostKey=/etc/ssh/ssh_host_ed25519_key
fi
