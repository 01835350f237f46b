"""Follow a training to its verdict: log and metrics come home byte for byte, the budget is kept on the way."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import BinaryIO

from trainyard.errors import HostKeyChanged, TrainingFailed, Unreachable
from trainyard.remote import jobs
from trainyard.remote.follow import Tail
from trainyard.remote.follow import follow as follow_job
from trainyard.remote.jobs import JobStatus
from trainyard.remote.protocol import Transport, quote
from trainyard.remote.reconnect import Reconnecting
from trainyard.runs.context import Context
from trainyard.runs.ledger import Ledger
from trainyard.runs.pod import Pod
from trainyard.runs.progress import ProgressLine
from trainyard.runs.record import Record, RunFolder, is_driven
from trainyard.runs.summary import cost

STOP_GRACE = 300.0
"""Seconds a training may take to save after it was told to stop."""

_ASK_CLOUD_EVERY = 20.0
_HEARTBEAT_EVERY = 30.0


class PodGone(TrainingFailed):
    """The cloud says that the pod does not exist any more, or that it has stopped it."""


class Cancelled(TrainingFailed):
    """Somebody wants the run's end: nothing more is started, and nothing is saved where that was said, too."""


def follow(context: Context, record: Record, folder: RunFolder, pod: Pod) -> None:
    """Follow until the job has its verdict; sets ``record.exit_code``.

    Raises KeyboardInterrupt on Ctrl-C (the training goes on), PodGone when the cloud has ended the pod,
    Cancelled when another process cancels without saving, HostKeyChanged at once. A lost link is waited out.
    """
    with (
        Reconnecting(pod.connect, name=f"pod {pod.id}") as transport,
        _appending(folder.log) as log,
        _appending(folder.metrics) as metrics,
        ProgressLine(context.ui, lambda: cost(record)) as line,
    ):
        line.feed(folder.metrics.read_bytes())

        def take_log(data: bytes) -> None:
            if not folder.log.stat().st_size:
                Ledger(context.places.ledger).add(record.id, "first output")
            _write(log, data)

        def take_metrics(data: bytes) -> None:
            _write(metrics, data)
            line.feed(data)

        tails = [
            Tail(pod.path("job", "log"), take_log, folder.log.stat().st_size),
            Tail(pod.path("output", "metrics.jsonl"), take_metrics, folder.metrics.stat().st_size),
        ]
        watch = _Watch(context, record, folder, pod, transport)
        status = follow_job(transport, pod.path("job"), tails, tick=watch.tick, on_link=watch.on_link)
    _take_verdict(record, status)


def stop(pod: Pod) -> None:
    """Let the training save and end. Raises Unreachable when the pod does not answer."""
    with pod.connect() as transport:
        jobs.stop(transport, pod.path("job"), grace=STOP_GRACE)


def watch_files(context: Context, folder: RunFolder, *, poll: float) -> None:
    """Show the progress that another controller writes, until it lets go of the run."""
    record = folder.load()
    with ProgressLine(context.ui, lambda: cost(record)) as line:
        offset = 0
        while is_driven(folder):
            if folder.metrics.is_file():
                with folder.metrics.open("rb") as metrics:
                    metrics.seek(offset)
                    data = metrics.read()
                offset += len(data)
                line.feed(data)
            time.sleep(poll)


class _Watch:
    """What is looked after while bytes flow: is the pod still there, is the budget used up, do we live."""

    def __init__(self, context: Context, record: Record, folder: RunFolder, pod: Pod, transport: Transport) -> None:
        self.context, self.record, self.folder, self.pod, self.transport = context, record, folder, pod, transport
        self.lost_since: float | None = None
        self.asked = self.beaten = time.monotonic()
        self.stopped = False

    def on_link(self, lost: str | None) -> None:
        """Say that the link went or came back; the training goes on either way."""
        self.lost_since = time.monotonic() if lost else None
        if lost:
            self.context.ui.warn(f"no link to the pod, the training goes on: {lost}")
        else:
            self.context.ui.say("           link is back")

    def tick(self) -> None:
        """Run about twice a second."""
        now = time.monotonic()
        if self.folder.cancelled_now:
            raise Cancelled("cancelled")
        if self.lost_since is not None and now - self.asked > _ASK_CLOUD_EVERY:
            self.asked = now
            if over := self.pod.over():
                raise PodGone(over)
        if self.lost_since is None and now - self.beaten > _HEARTBEAT_EVERY:
            self.beaten = now
            self._beat()
        if self._over_budget() and not self.stopped:
            self.stopped = True
            self.context.ui.warn(f"the budget of ${self.record.budget:.2f} is used up: the training is stopped and saved")
            jobs.stop(self.transport, self.pod.path("job"), grace=STOP_GRACE)

    def _over_budget(self) -> bool:
        return self.record.budget is not None and cost(self.record) >= self.record.budget

    def _beat(self) -> None:
        folder = quote(self.pod.path(".trainyard", "warden"))
        try:
            self.transport.exec(f"[ ! -d {folder} ] || touch {folder}/heartbeat", timeout=10)
        except HostKeyChanged:
            raise
        except Unreachable:
            return  # the readers notice it themselves and say so


def _take_verdict(record: Record, status: JobStatus) -> None:
    if status.state == "exited":
        record.exit_code = status.exit_code
        return
    record.exit_code = -1
    raise TrainingFailed(f"the training has no verdict: {jobs.verdict(status)}")


def _appending(path: Path) -> BinaryIO:
    return open(path, "ab", buffering=0)


def _write(stream: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(stream.fileno(), view) :]
