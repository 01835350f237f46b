"""Detached jobs: started once, followed by byte offset, one verdict.

A job is a folder on the pod. Its files are the whole protocol (other programs there read them too):

    script      what runs; no secret is in it (0600)         log         stdout and stderr, append-only
    supervisor  the sh that runs it in a session of its own   pid         the supervisor = session and process group
    lock        held (flock) as long as the job lives         started_at  epoch seconds; its existence is the claim
    boot_id     the kernel's, to tell a restart from a crash  exit        the exit code, written once by rename
    environment its variables (in a job of Slurm's alone), with which the cluster may begin it anew

exit -> "exited"; lock held, or a process of its session alive -> "running"; started_at and a free lock -> "lost";
nothing, or too little to tell -> "absent". What cannot be read is none of these: it is "unknown", which says nothing
about the job.
Its environment is its own: of the login's only what KEPT names, and nothing that looks like a key; more is given with
the start. Needs POSIX sh, coreutils, sed and util-linux (setsid, flock) on the pod.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainyard.errors import PodFailed
from trainyard.remote.protocol import Transport, expect, with_environment, with_values
from trainyard.secret import SECRET_NAMES, Secret
from trainyard.shellscript import load

State = Literal["absent", "running", "exited", "lost", "unknown"]
KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "HOSTNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "TMPDIR", "WORKSPACE", "XDG_*",
    "LD_*", "LIBRARY_PATH", "CPATH", "PYTHON*", "VIRTUAL_ENV*", "CONDA_*", "PIP_*", "UV_*",
    "*_proxy", "*_PROXY", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "CUDA*", "NVIDIA_*", "NV_*", "NCCL_*", "GPU_*", "ROC*", "HIP_*", "HSA_*", "GLOO_*", "UCX_*", "FI_*", "OMPI_*", "SLURM_*", "MASTER_*",
    "OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "MALLOC_*", "TORCH*", "PYTORCH_*", "TRITON_*", "XLA_*", "TF_*", "JAX_*",
    "HF_*", "HUGGINGFACE_*", "TRANSFORMERS_*", "DATASETS_*", "TOKENIZERS_*", "ACCELERATE_*", "DEEPSPEED_*", "UNSLOTH_*", "WANDB_*",
    "RUNPOD_*", "TRAINYARD_*",
)  # fmt: skip
"""Variables of the login that a job has too; everything else it is given."""
_ANSWER = 60.0
"""Longest time for a short command of the protocol."""
OUT_OF_MEMORY = "trainyard: out of memory"
"""How the line of a log begins that a job's supervisor adds when programs were killed for want of memory."""
# On TERM the outer shell waits for its command and passes that command's own exit code on.
_PRELUDE = "trap 'exit $?' TERM\n"


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


@dataclass(frozen=True, slots=True)
class JobPrograms:
    """What starts a job on a pod, tells how it stands and ends it: programs for sh, each behind a line ``job=FOLDER``.

    ``start`` is told ``size`` too, the bytes of the script, and reads from stdin a line with the job's secrets (exports, in
    base64) and the script; ``stop`` is told ``tenths`` of a second of grace.
    """

    start: str
    script: str
    status: str
    stop: str


def job_programs(command: str, env: Mapping[str, object], keeps: Sequence[str] = ()) -> JobPrograms:
    """Return the programs of a job whose command is POSIX sh and starts in the job's folder; ``env`` holds no secret."""
    script = _PRELUDE + with_environment(command, {"PYTHONUNBUFFERED": "1", **env}) + "\n"
    supervisor = with_values(load(__package__, "supervisor"), out_of_memory=OUT_OF_MEMORY)
    kept = {"keeps": " ".join(keeps), "kept": " ".join(KEPT), "never": " ".join(SECRET_NAMES)}
    begin = with_values(load(__package__, "job_start"), supervisor=supervisor, **kept)
    return JobPrograms(begin, script, load(__package__, "job_status"), load(__package__, "job_stop"))


def start(t: Transport, job_dir: str, command: str, env: Mapping[str, object] | None = None, keeps: Sequence[str] = ()) -> bool:
    """Start a job unless this folder's was started before; return whether it was started now.

    ``command`` is POSIX sh and starts in the job's folder. Its environment is ``env`` (a Secret is revealed to the job
    alone, and lies in no file), and of the login's what KEPT and ``keeps`` name. Raises PodFailed when it cannot be started.
    """
    plain = {name: value for name, value in (env or {}).items() if not isinstance(value, Secret)}
    secrets = with_environment("", {name: value for name, value in (env or {}).items() if name not in plain})
    programs = job_programs(command, plain, keeps)
    script = programs.script.encode()
    text = with_values(programs.start, job=job_dir, size=len(script))
    stdin = base64.b64encode(secrets.encode()) + b"\n" + script
    answer = expect(t.exec(text, stdin, timeout=_ANSWER), f"{t.name}: the job {job_dir} cannot be started")
    if answer.stdout.strip() not in (b"started", b"already"):
        raise PodFailed(f"{t.name}: whether the job {job_dir} was started is not to be understood: {answer.text[:200]!r}")
    return answer.stdout.strip() == b"started"


def status(t: Transport, job_dir: str) -> JobStatus:
    """Ask for the state of a job; what is not to be understood is unknown, never an end."""
    answer = t.exec(with_values(load(__package__, "job_status"), job=job_dir), timeout=_ANSWER)
    return read_status(answer.text, answer.rc, answer.error_text)


def read_status(text: str, rc: int = 0, why: str = "") -> JobStatus:
    """Return the state of a job of what the program that tells it has said, and its exit code."""
    first, *lines = text.splitlines() or [""]
    fields = dict(line.partition(" ")[::2] for line in lines)
    code = _number(fields.get("exit"))
    if rc or (first == "exited" and code is None):
        return JobStatus("unknown", why=f"the pod says: {why or f'exit code {rc}'}")
    for state in ("absent", "running", "exited", "lost"):
        if first == state:
            return JobStatus(
                state, code if state == "exited" else None, _number(fields.get("started_at")),
                _number(fields.get("ended_at")), _number(fields.get("pid")),
                state == "lost" and fields.get("boot_id") != fields.get("boot_now"),
            )  # fmt: skip
    return JobStatus("unknown", why=first.removeprefix("unknown ") or "the pod says nothing")


def is_over(t: Transport, job_dir: str, mark: str) -> bool:
    """Tell whether it is known that no process of a job lives though its files are gone; False where it cannot be told.

    ``mark`` is a line NAME=VALUE of the environment of all that the job starts.
    """
    answer = t.exec(with_values(load(__package__, "job_traces"), job=job_dir, mark=mark), timeout=_ANSWER)
    return answer.text.split() == ["none"]


def stop(t: Transport, job_dir: str, grace: float = 30.0) -> JobStatus:
    """Ask the job to end (TERM to its group), after ``grace`` seconds end it (KILL); return its verdict.

    A job that is absent or has ended is left as it is. Raises PodFailed when it goes on, or may.
    """
    before = status(t, job_dir)
    if before.state == "unknown":
        raise PodFailed(f"{t.name}: the job {job_dir} cannot be stopped: its state is {verdict(before)}")
    if before.state != "running":
        return before
    done = t.exec(with_values(load(__package__, "job_stop"), job=job_dir, tenths=round(grace * 10)), timeout=grace + _ANSWER)
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
