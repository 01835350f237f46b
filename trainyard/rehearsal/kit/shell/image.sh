# The first process of a pod that is made from an image: the image's files with a layer of its own above them, then its entrypoint.
: "${rootfs?}" "${port?}" "${volume?}"
set -e
own=/pod/image root=/pod/image/root
if ! mountpoint -q "$root"; then
  mkdir -p "$own/upper" "$own/work" "$root"
  mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$own/upper,workdir=$own/work" "$root"
  mkdir -p "$root/proc" "$root/dev" "$root/sys" "$root/workspace" "$root$volume"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount --rbind /sys "$root/sys"
  mount --bind /workspace "$root/workspace"
  if [ -n "$volume" ]; then mount --bind "$volume" "$root$volume"; fi
  cp /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || :
  if [ -e /pod/bin/nvidia-smi ]; then cp /pod/bin/nvidia-smi "$root/usr/bin/"; fi
  # Where a cloud would give a pod's port 22 another number outside, the pods of this machine have one network.
  sed -i "s/^Port .*/Port $port\nListenAddress 127.0.0.1/" "$root/opt/trainyard/sshd_config"
fi
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
unset TRAINYARD_POD_SOCKET TRAINYARD_SSH_READY TMPDIR
exec chroot "$root" /opt/trainyard/entrypoint.sh "$@"
