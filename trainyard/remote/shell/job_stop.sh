# End a job: TERM to its group, after $tenths of a second KILL; that spares the supervisor, which then writes the verdict.
: "${job?}" "${tenths?}"
. ./peers.sh
cd "$job" || exit 1
pid=; wait=50
while [ -z "$pid" ] && [ $wait -gt 0 ]; do
  if [ ! -e pid ] || ! read -r pid <./pid; then sleep 0.1; wait=$((wait - 1)); fi
done
[ -n "$pid" ] || { echo 'the job has no pid' >&2; exit 1; }
. ./running.sh
running || exit 0
kill -s TERM -- "-$pid" 2>/dev/null
left=$tenths
while running && [ "$left" -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
left=100
while running && [ "$left" -gt 0 ]; do
  # shellcheck disable=SC2086 # several words
  peers "$pid" && kill -s KILL $found 2>/dev/null
  sleep 0.1; left=$((left - 1))
done
! running
