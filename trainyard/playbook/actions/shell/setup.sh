# What a machine is: the facts that people ask for.
. ./answer.sh
os=/etc/os-release
[ -r $os ] || os=/usr/lib/os-release
ID='' ID_LIKE='' NAME='' VERSION_ID='' VERSION_CODENAME='' UBUNTU_CODENAME=''
# shellcheck disable=SC1090
[ ! -r $os ] || . $os
say os_id "$ID"
say os_like "$ID_LIKE"
say os_name "$NAME"
version=$VERSION_ID
[ "$ID" != debian ] || version=$(cat /etc/debian_version 2>/dev/null || echo "$VERSION_ID")
say distribution_version "$version"
say distribution_release "${VERSION_CODENAME:-$UBUNTU_CODENAME}"
say system "$(uname -s)"
say kernel "$(uname -r)"
say kernel_version "$(uname -v)"
say machine "$(uname -m)"
say nodename "$(uname -n)"
say fqdn "$(hostname -f 2>/dev/null || uname -n)"
say user_id "$(id -un)"
say_number user_uid "$(id -u)"
say_number user_gid "$(id -g)"
entry=$(grep -m 1 "^$(id -un):" /etc/passwd)
say user_dir "${HOME:-$(printf %s "$entry" | cut -d: -f6)}"
say user_shell "$(printf %s "$entry" | cut -d: -f7)"
while read -r name number _; do
  case $name in
    MemTotal:) say_number memtotal_mb $((number / 1024)) ;;
    MemFree:) say_number memfree_mb $((number / 1024)) ;;
    MemAvailable:) say_number memavailable_mb $((number / 1024)) ;;
    SwapTotal:) say_number swaptotal_mb $((number / 1024)) ;;
  esac
done </proc/meminfo
say_number processor_vcpus "$(grep -c '^processor' /proc/cpuinfo)"
say_number processor_nproc "$(nproc 2>/dev/null || grep -c '^processor' /proc/cpuinfo)"
awk -F': *' '/^physical id/ { p = $2; n[p] = 1 } /^cpu cores/ { c = $2 } END { k = 0; for (i in n) k++; print k ? k : 1, c ? c : 1 }' /proc/cpuinfo | {
  read -r sockets cores
  say_number processor_count "$sockets"
  say_number processor_cores "$cores"
}
say_number uptime_seconds "$(cut -d. -f1 /proc/uptime)"
if command -v ip >/dev/null 2>&1; then
  # shellcheck disable=SC2046 # words of a line
  set -- $(ip -4 route get 192.0.2.1 2>/dev/null)
  while [ $# -gt 1 ]; do
    case $1 in via) say gateway "$2" ;; dev) say interface "$2" ;; src) say address "$2" ;; esac
    shift
  done
  ip -o -4 addr show scope global 2>/dev/null | while read -r _ _ _ address _; do say_item addresses "${address%%/*}"; done
  ip -o -6 addr show 2>/dev/null | while read -r _ device _ address _; do [ "$device" = lo ] || say_item more_addresses "${address%%/*}"; done
elif [ -r /proc/net/fib_trie ]; then
  # Small images have no ip: the kernel's own table then.
  addresses=$(awk '/32 host LOCAL/ && last !~ /^127\./ { print last } { last = $2 }' /proc/net/fib_trie | sort -u)
  for each in $addresses; do say_item addresses "$each"; done
  device=$(awk '$2 == "00000000" { print $1; exit }' /proc/net/route)
  if [ -n "$device" ] && [ -n "$addresses" ]; then
    say interface "$device"
    say address "$(printf '%s\n' "$addresses" | head -n 1)"
    gateway=$(awk '$2 == "00000000" { print $3; exit }' /proc/net/route)
    say gateway "$(printf '%s\n' "$gateway" | sed 's/\(..\)\(..\)\(..\)\(..\)/0x\4 0x\3 0x\2 0x\1/' | { read -r a b c d; echo "$((a)).$((b)).$((c)).$((d))"; })"
  fi
fi
say epoch "$(date +%s)"
say clock "$(date '+%Y-%m-%d %H:%M:%S %w %A %Z %z')"
say utc "$(date -u '+%Y-%m-%dT%H:%M:%SZ')"
if [ -d /run/systemd/system ]; then say service_mgr systemd
elif command -v rc-service >/dev/null 2>&1; then say service_mgr openrc
else say service_mgr "$(cat /proc/1/comm 2>/dev/null || echo service)"; fi
for each in apt-get:apt dnf:dnf yum:yum zypper:zypper pacman:pacman apk:apk; do
  command -v "${each%%:*}" >/dev/null 2>&1 && say pkg_mgr "${each##*:}" && break
done
if [ -e /.dockerenv ]; then say container docker; elif [ -e /run/.containerenv ]; then say container podman; fi
env | while IFS= read -r line; do case $line in [A-Za-z_]*=*) say_item env "$line" ;; esac; done
if command -v nvidia-smi >/dev/null 2>&1; then
  nvidia-smi --query-gpu=index,name,uuid,memory.total,driver_version --format=csv,noheader,nounits 2>/dev/null |
    while IFS= read -r line; do say_item gpus "$line"; done
fi
exit 0
