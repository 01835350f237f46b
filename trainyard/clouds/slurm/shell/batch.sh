# The batch script of a job that is a pod. What stands before it: $WORKSPACE and $POD_LOG, the pod's variables (exported), $modules,
# $container (words before a command, or nothing), $rescue (seconds), $minutes, $allocation and $POD_BOOT.
: "${WORKSPACE?}" "${modules?}" "${container?}" "${rescue?}" "${minutes?}" "${allocation?}"
umask 077
export WORKSPACE POD_BOOT POD_LOG
mkdir -p "$WORKSPACE/.trainyard" || exit 1
cd "$WORKSPACE" || exit 1
rm -f .trainyard/ready .trainyard/ended

# The lease's hours begin now; its end is the cluster's.
end=$(SLURM_TIME_FORMAT=%s squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null)
case $end in '' | *[!0-9]*) end=$(($(date +%s) + minutes * 60)) ;; esac
POD_END=$end POD_STOP=$((end - rescue))
TRAINYARD_END=$(date -u -d "@$POD_END" +%Y-%m-%dT%H:%M:%SZ)
TRAINYARD_STOP=$(date -u -d "@$POD_STOP" +%Y-%m-%dT%H:%M:%SZ)
export TRAINYARD_END TRAINYARD_STOP POD_END POD_STOP

# Several nodes meet on the first one.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" 2>/dev/null | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT

# shellcheck disable=SC2086 # several words
[ -z "$modules" ] || module load $modules || { echo "these modules cannot be loaded: $modules" >&2; exit 1; }
printf %s "$allocation" | base64 -d >.trainyard/allocation.py.new && mv -f .trainyard/allocation.py.new .trainyard/allocation.py || exit 1

# The cluster tells this shell alone when the rescue time begins. The watchdog has told the training by then, if it lives.
stop_training() {
  grep -q '"state": "stopping"' .trainyard/watchdog/status.json 2>/dev/null && return
  read -r job <job/pid 2>/dev/null && kill -s TERM -- "-$job" 2>/dev/null
}
trap '(sleep 20; stop_training) &' TERM
eval "exec $container python3 .trainyard/allocation.py serve" &
pod=$!
while kill -0 $pod 2>/dev/null; do wait $pod; done
wait $pod
