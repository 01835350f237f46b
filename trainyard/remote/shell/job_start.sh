# Start a job once: stdin is a line of its secrets (exports in base64, or nothing), then its script, of $size bytes; says
# "started" or "already". The secrets lie in no file: the supervisor has them in its environment, and so has the script.
: "${job?}" "${size?}" "${supervisor?}"
umask 077
IFS= read -r job_secrets
mkdir -p "$job" && cd "$job" || exit 1
trap 'rm -f script.$$' EXIT
cat >script.$$ && [ "$(wc -c <script.$$)" -eq "$size" ] || { echo 'the script did not arrive whole' >&2; exit 1; }
[ -e started_at ] && { echo already; exit 0; }
for tool in setsid flock env sed; do
  command -v $tool >/dev/null || { echo "$tool is missing (packages util-linux, coreutils, sed)" >&2; exit 1; }
done
exec 9>lock
flock -w 20 9 || { [ -e started_at ] && echo already && exit 0; echo "cannot lock $PWD/lock" >&2; exit 1; }
[ -e started_at ] && { echo already; exit 0; }
mv -f script.$$ script && printf %s "$supervisor" >supervisor || exit 1
cat /proc/sys/kernel/random/boot_id >boot_id 2>/dev/null
: >>log && printf '    \n' >exit.tmp && printf '%-11s\n' '' >ended_at || exit 1
. ./environment.sh
# A cluster may begin its job anew on another node: then it goes on without us, unless it needs what is in memory alone.
if [ -n "${SLURM_JOB_ID:-}" ] && [ -z "$job_secrets" ]; then env -0 >environment || exit 1; fi
if [ -n "$job_secrets" ]; then
  job_exports=$(printf %s "$job_secrets" | base64 -d) && [ -n "$job_exports" ] || { echo 'base64 is missing (package coreutils)' >&2; exit 1; }
  eval "$job_exports"
fi
date +%s >started_at.tmp && mv -f started_at.tmp started_at || exit 1
setsid sh supervisor </dev/null >/dev/null 2>&1 &
echo started
