"""Detached jobs: started once, followed by byte offset, one verdict.

A job is a folder on the pod. Its files are the whole protocol (other programs there read them too):

    script      what runs, with its environment (0600)       log         stdout and stderr, append-only
    supervisor  the sh that runs it in a session of its own   pid         the supervisor = session and process group
    lock        held (flock) as long as the job lives         started_at  epoch seconds; its existence is the claim
    boot_id     the kernel's, to tell a restart from a crash  exit        the exit code, written once by rename

exit -> "exited"; lock held, or a process of its session alive -> "running"; started_at and a free lock -> "lost";
nothing, or too little to tell -> "absent".
Needs POSIX sh, coreutils and util-linux (setsid, flock) on the pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainyard.errors import PodFailed
from trainyard.remote.protocol import Transport, expect, with_environment, with_values

State = Literal["absent", "running", "exited", "lost"]
_ANSWER = 60.0
"""Longest time for a short command of the protocol."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is known of a job. ``restarted`` (only when lost): the machine was booted since the job began."""

    state: State
    exit_code: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    pid: int | None = None
    restarted: bool = False

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen."""
        return self.state in ("exited", "lost")


# Processes of the session or group of $1, without $1 itself: sh builtins only, so the scan does not see itself.
_PEERS = """\
peers() {
  found=
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    peer=${line%% *}
    leader=$1
    set -- ${line##*) }
    [ "$1" != Z ] && [ "$peer" != "$leader" ] && { [ "$3" = "$leader" ] || [ "$4" = "$leader" ]; } && found="$found $peer"
    set -- "$leader"
  done
  [ -n "$found" ]
}
"""

OUT_OF_MEMORY = "trainyard: out of memory"
"""How the line of a log begins that a job's supervisor adds when programs were killed for want of memory."""
# Counts them: as the kernel does for the pod's cgroup, and as the supervisor of a local pod without one does.
_OOM = """\
oom() {
  killed=0
  while IFS=: read -r number kinds group; do
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
  [ -r "$own" ] && while read -r line; do killed=$((killed + 1)); done <"$own"
}
"""

# The trap keeps the supervisor alive when its group gets TERM, so that the verdict is still written. After a
# TERM it waits for what is still saving: a shell dies at once and its Python a minute later. The verdict's
# bytes were written before the start and are overwritten in place: a disk that the training filled cannot lose it.
_SUPERVISOR = (
    _PEERS
    + _OOM
    + """\
umask 022
ulimit -c 0
told=
trap 'told=1' TERM
trap : INT HUP
echo $$ >pid.tmp && mv -f pid.tmp pid
oom 2>/dev/null
before=$killed
sh ./script >>log 2>&1 </dev/null
rc=$?
oom 2>/dev/null
[ $rc -ne 0 ] && [ "$killed" -gt "$before" ] && printf '\\n%s: %s\\n' '"""
    + OUT_OF_MEMORY
    + """' "$((killed - before)) program(s) of this pod were killed" >>log
left=1200
while [ -n "$told" ] && [ $left -gt 0 ] && peers $$; do sleep 0.5; left=$((left - 1)); done
date +%s 1<>ended_at
printf '%-4s\\n' $rc 1<>exit.tmp
mv -f exit.tmp exit
"""
)

# On TERM the outer shell waits for its command and passes that command's own exit code on.
_PRELUDE = "trap 'exit $?' TERM\n"

_START = """\
umask 077
mkdir -p "$job" && cd "$job" || exit 1
trap 'rm -f script.$$' EXIT
cat >script.$$ && [ "$(wc -c <script.$$)" -eq "$size" ] || { echo 'the script did not arrive whole' >&2; exit 1; }
[ -e started_at ] && { echo already; exit 0; }
for tool in setsid flock; do
  command -v $tool >/dev/null || { echo "$tool is missing (package util-linux)" >&2; exit 1; }
done
exec 9>lock
flock -w 20 9 || { [ -e started_at ] && echo already && exit 0; echo "cannot lock $PWD/lock" >&2; exit 1; }
[ -e started_at ] && { echo already; exit 0; }
mv -f script.$$ script && printf %s "$supervisor" >supervisor || exit 1
cat /proc/sys/kernel/random/boot_id >boot_id 2>/dev/null
: >>log && printf '    \\n' >exit.tmp && printf '%-11s\\n' '' >ended_at || exit 1
date +%s >started_at.tmp && mv -f started_at.tmp started_at || exit 1
setsid sh supervisor </dev/null >/dev/null 2>&1 &
echo started
"""

# The lock tells who lives, unless somebody has swept the job's folder: then the processes of its session tell. Neither of
# them there is no proof of anything ("absent").
_RUNS = """\
pid=; [ -e pid ] && read -r pid <pid
boot=; [ -e boot_id ] && read -r boot <boot_id
now=; { read -r now </proc/sys/kernel/random/boot_id; } 2>/dev/null
lives() {
  [ -n "$pid" ] && [ "$boot" = "$now" ] || return 1
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    set -- ${line##*) }
    [ "$1" != Z ] && [ "$4" = "$pid" ] && return 0
  done
  return 1
}
running() { [ ! -e exit ] && { { [ -e lock ] && ! flock -s -n lock true; } || { [ ! -e exit ] && lives; }; }; }
"""

_STATUS = (
    """\
cd "$job" 2>/dev/null && [ -e started_at ] || { echo absent; exit 0; }
"""
    + _RUNS
    + """\
if running; then echo running
elif [ -e exit ]; then echo exited
elif [ -e lock ]; then echo lost
else echo absent; fi
for file in exit started_at ended_at pid boot_id; do
  value=; [ -e $file ] && read -r value <$file; echo "$file $value"
done
echo "boot_now $now"
"""
)

# KILL spares the supervisor, which then writes the verdict (137).
_STOP = (
    _PEERS
    + """\
cd "$job" || exit 1
pid=; wait=50
while [ -z "$pid" ] && [ $wait -gt 0 ]; do
  [ -e pid ] && read -r pid <pid || { sleep 0.1; wait=$((wait - 1)); }
done
[ -n "$pid" ] || { echo 'the job has no pid' >&2; exit 1; }
"""
    + _RUNS
    + """\
running || exit 0
kill -s TERM -- -$pid 2>/dev/null
left=$tenths
while running && [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
left=100
while running && [ $left -gt 0 ]; do
  peers $pid && kill -s KILL $found 2>/dev/null
  sleep 0.1; left=$((left - 1))
done
! running
"""
)


def start(t: Transport, job_dir: str, command: str, env: Mapping[str, object] | None = None) -> bool:
    """Start a job unless this folder's was started before; return whether it was started now.

    ``command`` is POSIX sh and starts in the job's folder. Raises PodFailed when it cannot be started.
    """
    script = (_PRELUDE + with_environment(command, {"PYTHONUNBUFFERED": "1", **(env or {})}) + "\n").encode()
    text = with_values(_START, job=job_dir, size=len(script), supervisor=_SUPERVISOR)
    answer = expect(t.exec(text, script, timeout=_ANSWER), f"{t.name}: the job {job_dir} cannot be started")
    return answer.stdout.strip() == b"started"


def status(t: Transport, job_dir: str) -> JobStatus:
    """Ask for the state of a job."""
    answer = expect(t.exec(with_values(_STATUS, job=job_dir), timeout=_ANSWER), f"{t.name}: no state of the job {job_dir}")
    lines = answer.text.splitlines()
    fields = dict(line.partition(" ")[::2] for line in lines[1:])
    for state in ("absent", "running", "exited", "lost"):
        if lines and lines[0] == state:
            return JobStatus(
                state, _number(fields.get("exit")) if state == "exited" else None, _number(fields.get("started_at")),
                _number(fields.get("ended_at")), _number(fields.get("pid")),
                state == "lost" and fields.get("boot_id") != fields.get("boot_now"),
            )  # fmt: skip
    raise PodFailed(f"{t.name}: the state of the job {job_dir} is not to be understood: {answer.text[:200]}")


def stop(t: Transport, job_dir: str, grace: float = 30.0) -> JobStatus:
    """Ask the job to end (TERM to its group), after ``grace`` seconds end it (KILL); return its verdict.

    A job that is absent or has ended is left as it is.
    """
    before = status(t, job_dir)
    if before.state != "running":
        return before
    done = t.exec(with_values(_STOP, job=job_dir, tenths=round(grace * 10)), timeout=grace + _ANSWER)
    expect(done, f"{t.name}: the job {job_dir} did not end")
    return status(t, job_dir)


def verdict(status: JobStatus) -> str:
    """Return the state as a person reads it."""
    if status.state == "exited":
        return f"exited {status.exit_code}"
    if status.state == "lost":
        return "lost: the pod was restarted" if status.restarted else "lost: killed without a verdict (out of memory?)"
    return status.state


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdigit() else None
