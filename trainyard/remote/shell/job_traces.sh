# Say whether a process of a job lives, by the processes alone: its files may be gone. "none" needs a look at each of them.
: "${job?}" "${mark?}"
top=$(cd "${job%/*}" 2>/dev/null && pwd -P) || top=${job%/*}
place=$top/${job##*/}
me=$(id -u)
hides() {
  # Somebody else's process is not of the job; the kernel's and dead ones have no memory, and process 1 is the machine's own.
  { true <"$1/environ"; } 2>/dev/null && return 1
  [ "$1" != /proc/1 ] || return 1
  owner=; memory=
  while read -r key value _; do
    case $key in Uid:) owner=$value ;; VmSize:) memory=1 ;; esac
  done 2>/dev/null <"$1/status"
  [ -n "$memory" ] && [ "$owner" = "$me" ]
}
look() {
  # The job's own two shells know its mark only as a line of a script; who reads its files is in its folder, too. A program
  # may have cleared its environment (env -i) or written its title over it: where it works, writes and computes tells then.
  # shellcheck disable=SC2012 # one process for all of them, and the names are numbers
  ls -l /proc/[0-9]*/cwd /proc/[0-9]*/fd 2>/dev/null | while read -r line; do
    case $line in
    *"/cwd -> $place" | *"/cwd -> $place (deleted)")
      process=${line##* /proc/}
      case $(tr '\0' ' ' 2>/dev/null <"/proc/${process%%/*}/cmdline") in "sh supervisor " | "sh ./script ") echo some ;; esac
      ;;
    *" -> $top/.trainyard/"*) ;; # the watchdog's
    *"/cwd -> $top/"*) echo some ;;
    *"/cwd -> "*) ;;
    l?w*" -> $top/"* | *" -> /dev/nvidia"* | *" -> /dev/kfd") echo some ;;
    esac
  done | grep -q some && { echo some; exit 0; }
  cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -qxF -e "$mark" && { echo some; exit 0; }
  for process in /proc/[0-9]*; do
    hides "$process" && { echo unknown; exit 0; }
  done
}
[ -r /proc/self/environ ] || { echo unknown; exit 0; }
look
# In the middle of an exec a process shows no environment: one look could miss it.
sleep 0.5
look
echo none
