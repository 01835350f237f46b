# Count the programs that were killed for want of memory: as the kernel does for the pod's cgroup, and as the supervisor
# of a local pod without one does.
oom() {
  killed=0
  while IFS=: read -r _ kinds group; do
    case ",$kinds," in
      ,,) events=/sys/fs/cgroup$group/memory.events ;;
      *,memory,*) events=/sys/fs/cgroup/memory$group/memory.oom_control ;;
      *) continue ;;
    esac
    [ -r "$events" ] && while read -r key value; do
      [ "$key" = oom_kill ] && killed=$((killed + value))
    done <"$events"
  done </proc/self/cgroup
  own=${TRAINYARD_POD_SOCKET%/*}/oom
  [ -r "$own" ] && while read -r _; do killed=$((killed + 1)); done <"$own"
}
