# Runs a job's script in a session of its own and writes its verdict.
: "${out_of_memory?}"
. ./peers.sh
. ./oom.sh
umask 022
# shellcheck disable=SC3045 # every sh that is used has it
ulimit -c 0
# The trap keeps the supervisor alive when its group gets TERM, so that the verdict is still written.
told=
trap 'told=1' TERM
trap : INT HUP
echo $$ >pid.tmp && mv -f pid.tmp pid
oom 2>/dev/null
before=$killed
sh ./script >>log 2>&1 </dev/null
rc=$?
oom 2>/dev/null
[ $rc -ne 0 ] && [ "$killed" -gt "$before" ] &&
  printf '\n%s: %s\n' "$out_of_memory" "$((killed - before)) program(s) of this pod were killed" >>log
# What a killed shell has left would go on changing the result while it is hashed: it is told to save and stop.
[ $rc -eq 0 ] || ! peers $$ || kill -s TERM -- "-$$"
# After a TERM it waits for what is still saving: a shell dies at once and its Python a minute later.
left=1200
while [ -n "$told" ] && [ $left -gt 0 ] && peers $$; do sleep 0.5; left=$((left - 1)); done
# shellcheck disable=SC2086 # several words
[ -z "$told" ] || ! peers $$ || kill -s KILL $found
# The verdict's bytes were written before the start and are overwritten in place: a disk that the training filled
# cannot lose it.
date +%s 1<>ended_at
printf '%-4s\n' $rc 1<>exit.tmp
mv -f exit.tmp exit
