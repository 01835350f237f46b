"""What is asked of the cluster for a pod: sbatch's options and the batch script."""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trainyard import pod
from trainyard.clock import format_time
from trainyard.clouds.marker import marker_env
from trainyard.clouds.protocol import Offer, PodSpec
from trainyard.clouds.slurm.answers import marks_of
from trainyard.clouds.volume import volume_env
from trainyard.errors import CloudRefused, UserError
from trainyard.settings.table import DEFAULTS
from trainyard.shellscript import load

REFUSED = 4
"""What the program for the login node ends with when nothing was asked for; any other end leaves that open."""
_END = "END_OF_THE_BATCH_SCRIPT"
CPU = "-"
"""In an offer's id: no GPU."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What a stack's settings say of a job, by Slurm's names."""

    login: str
    partition: str
    account: str
    qos: str
    gres: str
    nodes: int
    sbatch: tuple[str, ...]
    modules: tuple[str, ...]
    container: str
    workspace: str
    queue_hours: float
    internet: str

    @classmethod
    def of(cls, options: Mapping[str, str]) -> ClusterOptions:
        """Read what the program passes on; raises UserError where no login node is said."""
        if not options.get("login"):
            raise UserError("trainyard:login is not set: the login node of the cluster")
        return cls(
            login=options["login"],
            partition=options.get("partition", ""),
            account=options.get("account", ""),
            qos=options.get("qos", ""),
            gres=options.get("gres", ""),
            nodes=int(options.get("nodes", "1")),
            sbatch=_lines(options.get("sbatch", "")),
            modules=_lines(options.get("modules", "")),
            container=options.get("container", ""),
            workspace=options.get("workspace", DEFAULTS.workspace),
            queue_hours=float(options.get("queue_hours", DEFAULTS.queue_hours)),
            internet=options.get("internet", DEFAULTS.internet),
        )


def submission(spec: PodSpec, offer: Offer, options: ClusterOptions, now: datetime) -> str:
    """Return the program for the login node that asks for the job and prints sbatch's answer.

    Raises CloudRefused for a lease that no job can keep.
    """
    values = {"name": spec.name, "top": options.workspace.removeprefix("~/") or ".", "comment": _comment(spec, offer, options)}
    values["words"] = shlex.join(options_of_job(spec, offer, options, now))
    batch = batch_script(spec, options, now).rstrip("\n")
    script = f"script() {{\ncat <<'{_END}'\n{batch}\n{_END}\n}}\n"
    return script + _assigned(values) + load(__package__, "submit")


def batch_script(spec: PodSpec, options: ClusterOptions, now: datetime) -> str:
    """Return what the job runs."""
    shell = "#!/bin/bash -l" if options.modules else "#!/bin/bash"  # only a login shell knows modules
    return f"{shell}\n{_batch(spec, options, _minutes(spec, options, now))}"


def options_of_job(spec: PodSpec, offer: Offer, options: ClusterOptions, now: datetime) -> list[str]:
    """Return what sbatch is told of the job."""
    assert spec.end is not None  # a pod without a lease is refused before
    rescue = _rescue(spec)
    words = [f"--job-name={spec.name}", f"--time={_minutes(spec, options, now)}", f"--nodes={options.nodes}", "--ntasks-per-node=1"]
    # What cannot end before the lease does, the cluster takes out of its queue.
    words += [f"--deadline=now+{int((spec.end - now).total_seconds())}", "--requeue", "--open-mode=append"]
    words += [f"--signal=B:TERM@{rescue}"] if rescue else []
    words += [f"--{name}={value}" for name in ("partition", "account", "qos") if (value := getattr(options, name))]
    gres = options.gres or offer.id.split("/", 2)[2]
    words += [f"--gres={gres}"] if gres != CPU else []
    return [*words, *options.sbatch]


def _minutes(spec: PodSpec, options: ClusterOptions, now: datetime) -> int:
    """Return the job's time limit: what the lease leaves when the job has waited as long as it may."""
    if spec.end is None:
        raise CloudRefused(f"{spec.name} has no end: no job is asked for without one")
    left = math.floor((spec.end - now).total_seconds() / 60 - options.queue_hours * 60)
    # The lease was made some seconds before; a minute that is missing is not worth a refusal.
    minutes = math.floor(((spec.end - now).total_seconds() + 59) / 60 - options.queue_hours * 60) if left < 1 else left
    if minutes < 1:
        raise CloudRefused(f"the lease of {spec.name} leaves no time for a job that may wait for {options.queue_hours:g} hours")
    return minutes


def _rescue(spec: PodSpec) -> int:
    return int((spec.end - spec.stop).total_seconds()) if spec.end is not None and spec.stop is not None else 0


def _comment(spec: PodSpec, offer: Offer, options: ClusterOptions) -> str:
    gpus = offer.gpu_count if offer.gpu else 0
    marks = {"end": format_time(spec.end), "rescue": _rescue(spec), "gpus": gpus, "gpu": offer.gpu, "volume": spec.volume}
    return marks_of({**marks, "internet": options.internet})


def _batch(spec: PodSpec, options: ClusterOptions, minutes: int) -> str:
    source = (Path(pod.__file__).parent / "allocation.py").read_bytes()
    env = {**marker_env(spec.fence_id, spec.lease_id, None, None), **(volume_env(spec.volume) if spec.volume else {}), **spec.env}
    boot = spec.boot[2] if spec.boot[:2] == ("sh", "-c") else ""
    values = {
        "modules": " ".join(options.modules), "container": _container(options), "rescue": _rescue(spec), "minutes": minutes,
        "allocation": base64.b64encode(source).decode(), "POD_BOOT": boot,
    }  # fmt: skip
    # Two jobs of one name, as a repeated request makes them, have a folder each.
    lines = [
        f"WORKSPACE=$PWD/{spec.name}-$SLURM_JOB_ID",
        "POD_LOG=$WORKSPACE.log",
        *(f"export {name}={shlex.quote(value)}" for name, value in env.items()),
    ]
    return "\n".join(lines) + "\n" + _assigned(values) + load(__package__, "batch")


def _container(options: ClusterOptions) -> str:
    """Return the words, as sh reads them, that run a command in the image: Apptainer, or enroot for what it has imported."""
    if not options.container:
        return ""
    if options.container.endswith(".sqsh"):
        return f'enroot start --rw --mount "$WORKSPACE:$WORKSPACE" {shlex.quote(options.container)}'
    return f'apptainer exec --nv --bind "$WORKSPACE" --pwd "$WORKSPACE" {shlex.quote(options.container)}'


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _assigned(values: Mapping[str, object]) -> str:
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
