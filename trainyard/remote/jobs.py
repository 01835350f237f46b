"""Detached jobs: started once, followed by byte offset, one verdict.

A job is a folder on the pod. Its files are the whole protocol (other programs there read them too):

    script      what runs, with its environment (0600)       log         stdout and stderr, append-only
    supervisor  the sh that runs it in a session of its own   pid         the supervisor = session and process group
    lock        held (flock) as long as the job lives         started_at  epoch seconds; its existence is the claim
    boot_id     the kernel's, to tell a restart from a crash  exit        the exit code, written once by rename

exit -> "exited"; lock held, or a process of its session alive -> "running"; started_at and a free lock -> "lost";
nothing, or too little to tell -> "absent". What cannot be read is none of these: it is "unknown", which says nothing
about the job.
Its environment is its own: of the login's only what KEPT names, and nothing that looks like a key; more is given with
the start. Needs POSIX sh, coreutils, sed and util-linux (setsid, flock) on the pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainyard.errors import PodFailed
from trainyard.remote.protocol import Transport, expect, with_environment, with_values

State = Literal["absent", "running", "exited", "lost", "unknown"]
KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "HOSTNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "TMPDIR", "WORKSPACE", "XDG_*",
    "LD_*", "LIBRARY_PATH", "CPATH", "PYTHON*", "VIRTUAL_ENV*", "CONDA_*", "PIP_*", "UV_*",
    "*_proxy", "*_PROXY", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "CUDA*", "NVIDIA_*", "NV_*", "NCCL_*", "GPU_*", "ROC*", "HIP_*", "HSA_*", "GLOO_*", "UCX_*", "FI_*", "OMPI_*", "SLURM_*",
    "OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "MALLOC_*", "TORCH*", "PYTORCH_*", "TRITON_*", "XLA_*", "TF_*", "JAX_*",
    "HF_*", "HUGGINGFACE_*", "TRANSFORMERS_*", "DATASETS_*", "TOKENIZERS_*", "ACCELERATE_*", "DEEPSPEED_*", "UNSLOTH_*", "WANDB_*",
    "RUNPOD_*", "TRAINYARD_*",
)  # fmt: skip
"""Variables of the login that a job has too; everything else it is given."""
_NEVER = ("*_TOKEN", "*_KEY", "*_KEYS", "*SECRET*", "*PASSWORD*", "*CREDENTIAL*")
_ANSWER = 60.0
"""Longest time for a short command of the protocol."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is known of a job. ``restarted`` (only when lost): the machine was booted since the job began.

    An exited one has its exit code; an unknown one says ``why``.
    """

    state: State
    exit_code: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    pid: int | None = None
    restarted: bool = False
    why: str = ""

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

# Before the supervisor is started, so that /proc shows no more of it either.
_OWN_ENVIRONMENT = f"""\
for name in $(env | sed -n 's/^\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'); do
  case " $keeps " in *" $name "*) continue ;; esac
  case $name in
    {" | ".join(_NEVER)}) unset "$name" ;;
    {" | ".join(KEPT)}) ;;
    *) unset "$name" ;;
  esac
done
"""

_START = (
    """\
umask 077
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
: >>log && printf '    \\n' >exit.tmp && printf '%-11s\\n' '' >ended_at || exit 1
"""
    + _OWN_ENVIRONMENT
    + """\
date +%s >started_at.tmp && mv -f started_at.tmp started_at || exit 1
setsid sh supervisor </dev/null >/dev/null 2>&1 &
echo started
"""
)

# The lock tells who lives, unless somebody has swept the job's folder: then the processes of its session tell. Neither of
# them there is no proof of anything ("absent"). flock says "held" by 1 and trouble of its own by other codes.
_RUNS = """\
pid=; [ -e pid ] && read -r pid 2>/dev/null <pid
boot=; [ -e boot_id ] && read -r boot 2>/dev/null <boot_id
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
running() {
  held=0
  [ ! -e exit ] || return 1
  [ ! -e lock ] || said=$(flock -s -n lock true 2>&1) || held=$?
  [ $held -eq 1 ] || { [ ! -e exit ] && lives; }
}
"""

_STATUS = (
    """\
unknown() { echo "unknown $1"; exit 0; }
if ! cd "$job" 2>/dev/null; then
  [ -e "$job" ] && unknown "$job cannot be entered"
  ls -d "${job%/*}/" >/dev/null 2>&1 || [ ! -e "${job%/*}" ] || unknown "${job%/*} cannot be read"
  echo absent; exit 0
fi
ls >/dev/null 2>&1 || unknown "$job cannot be read"
[ -e started_at ] || { echo absent; exit 0; }
verdict() {
  [ -e exit ] || return 1
  value=; read -r value 2>/dev/null <exit
  case $value in '' | *[!0-9]*) unknown "$job/exit holds no exit code" ;; esac
}
"""
    + _RUNS
    + """\
if running; then echo running
elif verdict; then echo exited
elif [ $held -gt 1 ]; then unknown "whether it runs cannot be asked (${said:-flock: exit code $held})"
elif [ -e lock ]; then echo lost
else echo absent; fi
for file in exit started_at ended_at pid boot_id; do
  value=; [ -e $file ] && read -r value 2>/dev/null <$file; echo "$file $value"
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


def start(t: Transport, job_dir: str, command: str, env: Mapping[str, object] | None = None, keeps: Sequence[str] = ()) -> bool:
    """Start a job unless this folder's was started before; return whether it was started now.

    ``command`` is POSIX sh and starts in the job's folder. Its environment is ``env`` (a Secret is revealed to the job
    alone), and of the login's what KEPT and ``keeps`` name. Raises PodFailed when it cannot be started.
    """
    script = (_PRELUDE + with_environment(command, {"PYTHONUNBUFFERED": "1", **(env or {})}) + "\n").encode()
    text = with_values(_START, job=job_dir, size=len(script), supervisor=_SUPERVISOR, keeps=" ".join(keeps))
    answer = expect(t.exec(text, script, timeout=_ANSWER), f"{t.name}: the job {job_dir} cannot be started")
    if answer.stdout.strip() not in (b"started", b"already"):
        raise PodFailed(f"{t.name}: whether the job {job_dir} was started is not to be understood: {answer.text[:200]!r}")
    return answer.stdout.strip() == b"started"


def status(t: Transport, job_dir: str) -> JobStatus:
    """Ask for the state of a job; what is not to be understood is unknown, never an end."""
    answer = t.exec(with_values(_STATUS, job=job_dir), timeout=_ANSWER)
    first, *lines = answer.text.splitlines() or [""]
    fields = dict(line.partition(" ")[::2] for line in lines)
    code = _number(fields.get("exit"))
    if answer.rc or (first == "exited" and code is None):
        return JobStatus("unknown", why=f"the pod says: {answer.error_text or f'exit code {answer.rc}'}")
    for state in ("absent", "running", "exited", "lost"):
        if first == state:
            return JobStatus(
                state, code if state == "exited" else None, _number(fields.get("started_at")),
                _number(fields.get("ended_at")), _number(fields.get("pid")),
                state == "lost" and fields.get("boot_id") != fields.get("boot_now"),
            )  # fmt: skip
    return JobStatus("unknown", why=first.removeprefix("unknown ") or "the pod says nothing")


def stop(t: Transport, job_dir: str, grace: float = 30.0) -> JobStatus:
    """Ask the job to end (TERM to its group), after ``grace`` seconds end it (KILL); return its verdict.

    A job that is absent or has ended is left as it is. Raises PodFailed when it goes on, or may.
    """
    before = status(t, job_dir)
    if before.state == "unknown":
        raise PodFailed(f"{t.name}: the job {job_dir} cannot be stopped: its state is {verdict(before)}")
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
    return f"unknown: {status.why}" if status.state == "unknown" else status.state


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdigit() else None
