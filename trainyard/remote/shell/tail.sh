# Follow a file of a job from a byte on, until the job has ended.
: "${job?}" "${path?}" "${first?}"
cd "$job" || exit 0
# In a folder that was removed no lock can be asked for, and nothing will ever be appended.
lives() { [ -e started_at ] && [ ! -e exit ] && ! flock -s -n lock true; }
lives || exit 0
# "tail -c +N" of a shorter file would print what is appended from N on and before it, so the file must be that long first.
while [ ! -e "$path" ] || [ "$(wc -c <"$path")" -lt $((first - 1)) ]; do lives || exit 0; sleep 0.2; done
reader=$$
# What ends tail is a watcher of its own, which goes by verdict and lock. Not "tail --pid": in a container whose pid 1
# does not reap, a dead supervisor looks alive for ever.
(
  exec >/dev/null 2>&1 </dev/null
  turn=0
  while [ ! -e exit ] && kill -0 $reader; do
    sleep 0.2; turn=$((turn + 1))
    [ $((turn % 10)) -ne 0 ] || lives || break
  done
  kill $reader
) &
exec tail -c +"$first" -f "$path"
