# Tell whether the job of this folder runs. The lock tells who lives, unless somebody has swept the job's folder: then the
# processes of its session tell. Neither of them there is no proof of anything ("absent"). flock says "held" by 1 and
# trouble of its own by other codes.
pid=; [ -e pid ] && read -r pid 2>/dev/null <./pid
boot=; [ -e boot_id ] && read -r boot 2>/dev/null <boot_id
now=; { read -r now </proc/sys/kernel/random/boot_id; } 2>/dev/null
lives() {
  [ -n "$pid" ] && [ "$boot" = "$now" ] || return 1
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    # shellcheck disable=SC2086 # the fields of the line
    set -- ${line##*) }
    [ "$1" != Z ] && [ "$4" = "$pid" ] && return 0
  done
  return 1
}
running() {
  held=0
  [ ! -e exit ] || return 1
  # shellcheck disable=SC2034 # job_status.sh says it
  [ ! -e lock ] || said=$(flock -s -n lock true 2>&1) || held=$?
  [ $held -eq 1 ] || { [ ! -e exit ] && lives; }
}
