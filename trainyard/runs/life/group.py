"""Pods that train one model together: how each knows the others, what is looked after while they train, and why they have failed.

The first pod has the result and the log that is followed. The others live and end with it: a part that has failed or whose pod is
gone lets the others wait for ever, so they are told to stop then.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainyard.errors import CloudError, TrainyardError, Unreachable
from trainyard.remote import jobs
from trainyard.remote.jobs import JobStatus
from trainyard.remote.protocol import quote
from trainyard.runs.context import CommandContext
from trainyard.runs.life.heartbeat import EVERY, beat
from trainyard.runs.life.verdict import Verdict
from trainyard.runs.records.pod import ReachablePod, reach
from trainyard.runs.records.record import RunFolder, RunRecord

_LOOKS = EVERY / 2
_ENDED_WELL = (0, 75)
"""Exit codes of a part that has done what it was told: all of the training, or a stop."""
_SHOWN = 4


def peers_of(context: CommandContext, record: RunRecord) -> list[ReachablePod]:
    """Return the pods beside the first one. Raises EngineError when their SSH key is lost."""
    return [reach(context, record, known) for known in record.peers]


def env_of(record: RunRecord, number: int) -> dict[str, str]:
    """Return what a job is told of the pods that train with it (templates/common/launch.py reads it); nothing where there are none."""
    if not record.peers:
        return {}
    meeting = {"MASTER_ADDR": record.pod.host or "", "MASTER_PORT": str(record.pod.meeting)}
    return {"TRAINYARD_NODES": str(len(record.group)), "TRAINYARD_NODE": str(number), **meeting}


@dataclass(slots=True)
class GroupWatch:
    """What is looked after beside the first pod, while its log is followed."""

    context: CommandContext
    record: RunRecord
    pods: list[ReachablePod]
    broken: str = ""
    """Why the training cannot go on, empty while it may."""
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Tell the watchdogs that a controller lives, and look whether all parts are at work."""
        while not self.over.wait(0.0 if not self.broken else EVERY):
            for number, pod in enumerate(self.pods, 1):
                with contextlib.suppress(TrainyardError):
                    self.broken = self.broken or self._look(number, pod)
            self.over.wait(_LOOKS)

    def _look(self, number: int, pod: ReachablePod) -> str:
        try:
            with pod.connect() as transport:
                beat(transport, pod)
                status = jobs.status(transport, pod.path("job"))
        except Unreachable:
            return pod.over() or ""  # a lost link is no end
        return f"{_name(self.record, number)}: {jobs.verdict(status)}" if _has_failed(status) else ""


@contextlib.contextmanager
def watched(context: CommandContext, record: RunRecord) -> Iterator[GroupWatch]:
    """Look after the other pods while the block runs."""
    watch = GroupWatch(context, record, peers_of(context, record))
    if watch.pods:
        threading.Thread(target=watch.run, daemon=True).start()
    try:
        yield watch
    finally:
        watch.over.set()


def collect(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Take home what the other parts have said; what is not had is told, and costs nothing."""
    for number, pod in enumerate(peers_of(context, record), 1):
        try:
            with pod.connect() as transport:
                ranks = f"{quote(pod.path('.trainyard', 'ranks'))}/*.log"
                said = transport.exec(f"cat {quote(pod.path('job', 'log'))} {ranks} 2>/dev/null", timeout=60).stdout
            log = _log(folder, number)
            log.parent.mkdir(exist_ok=True)
            log.write_bytes(said)
        except (OSError, TrainyardError) as error:
            context.ui.warn(f"the log of {_name(record, number)} did not come home: {error}")


def blamed(context: CommandContext, record: RunRecord, folder: RunFolder, verdict: Verdict) -> Verdict:
    """Return a verdict with what was wrong with the other pods: one that the cloud has taken makes the run one that can go on."""
    if record.training_success or record.cancelled or verdict.by != "training":
        return verdict
    for number, pod in enumerate(peers_of(context, record), 1):
        gone, why = pod.over(), ""
        if gone is None:
            with contextlib.suppress(TrainyardError), pod.connect() as transport:
                status = jobs.status(transport, pod.path("job"))
                why = jobs.verdict(status) if _has_failed(status) else ""
        if gone is not None:
            error = f"{_name(record, number)} was lost, and the others cannot train without it: {gone}"
            return Verdict("cloud", "\n".join([error, *filter(None, [verdict.error])]), CloudError.exit_code, lost=True)
        if why:
            verdict = replace(
                verdict, error="\n".join([verdict.error or "the training has failed", *_words(record, folder, number, why)]), code=1
            )
    return verdict


def _words(record: RunRecord, folder: RunFolder, number: int, why: str) -> list[str]:
    log = _log(folder, number)
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return [f"{_name(record, number)} {why}", *(f"  {line}" for line in lines[-_SHOWN:])]


def _has_failed(status: JobStatus) -> bool:
    return status.state == "lost" or (status.state == "exited" and status.exit_code not in _ENDED_WELL)


def _name(record: RunRecord, number: int) -> str:
    return f"pod {number + 1} of {len(record.group)} ({record.peers[number - 1].pod_id})"


def _log(folder: RunFolder, number: int) -> Path:
    return folder.path / "pods" / f"{number + 1}.log"
