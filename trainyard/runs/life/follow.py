"""Follow a training to its verdict: log and metrics come home byte for byte, the budget is kept on the way."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from trainyard.clock import parse_time
from trainyard.errors import CloudError, PodFailed, TrainyardError, Unreachable, UserError
from trainyard.files import naming
from trainyard.remote import jobs
from trainyard.remote.jobs import JobStatus
from trainyard.runs.context import CommandContext
from trainyard.runs.life.announcing import BudgetShares
from trainyard.runs.life.group import GroupWatch, watched
from trainyard.runs.life.joblink import JobLink, JobReader, JobSession
from trainyard.runs.life.outlook import Outlook
from trainyard.runs.life.verdict import Verdict
from trainyard.runs.records.budget import budget_stop
from trainyard.runs.records.keepsake import FolderDeleted
from trainyard.runs.records.key import key_file
from trainyard.runs.records.movedlease import LeaseWatch
from trainyard.runs.records.notes import ended_by_hand, note, tell
from trainyard.runs.records.pod import ReachablePod, pod_with
from trainyard.runs.records.progress import ProgressLine, duration
from trainyard.runs.records.record import RunFolder, RunRecord, is_driven
from trainyard.runs.records.runrows import state_of
from trainyard.runs.records.summary import began_at, cost
from trainyard.runs.signals import leave_if_asked
from trainyard.runs.trackers.start import TrackerTroubles

STOP_GRACE = 300.0
"""Seconds a training may take to save after it was told to stop."""

OWN_PROGRAM = "command"
"""The recipe of programs of one's own: most report no figures, so what they print is shown."""

_ASK_CLOUD_EVERY = 20.0
_ASK_CLOUD_FIRST = 3.0
_STOP_AGAIN = 2.0
_ASK_CLOCK_EVERY = 15.0
_WATCHDOG_FIRST = 20.0
"""Seconds after the lease's stop in which the pod's own watchdog tells the training; it kills none that does not listen."""


class _Over(Exception):
    """The cloud or a person has ended the training: nothing is left to follow."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


def follow(context: CommandContext, record: RunRecord, folder: RunFolder, link: JobLink) -> Verdict | None:
    """Follow until the training has ended and set ``record.exit_code`` (or ``vanished``), or return whose word ended the pod before.

    A lost link is waited out. Whatever it raises (KeyboardInterrupt on Ctrl-C, HostKeyChanged at once, PodFailed
    when the job is not to be understood) says nothing about the training, which goes on.
    """
    try:
        status = _follow(context, record, folder, link)
    except _Over as over:
        return over.verdict
    if status.state == "lost":
        # Its lock is free and it left no exit code: nothing of it runs any more.
        record.vanished = jobs.verdict(status)
        return None
    if status.state == "absent":
        gone = f"nothing of it is left in {link.pod.path('job')} (was the container started anew?)"
        try:
            if not (folder.cancelled or record.resumes):
                hint = f"If nothing of it runs any more, this keeps what is there and ends the pod: invoke cancel {record.id}"
                raise PodFailed(f"the training has no verdict: {gone}", hint=hint)
            if not link.is_over():
                raise PodFailed(f"the training has no verdict: {gone}, and it may still run")
        except (PodFailed, Unreachable):
            if (ended := ended_from_outside(context, record, link.pod)) is None:
                raise
            return ended
        record.vanished, record.lost = gone, not folder.cancelled
        return None
    if status.state != "exited":
        raise PodFailed(f"the training has no verdict: {jobs.verdict(status)}")
    record.exit_code = status.exit_code
    if status.started_at is not None and status.ended_at is not None:
        record.job_seconds = float(max(0, status.ended_at - status.started_at))
    return None


def _follow(context: CommandContext, record: RunRecord, folder: RunFolder, link: JobLink) -> JobStatus:
    with (
        link.session() as session,
        _appending(folder.log) as log,
        _appending(folder.metrics) as metrics,
        _progress(context, record) as line,
        watched(context, record) as group,
    ):
        line.feed(folder.metrics.read_bytes())
        outlook = Outlook(record, context.ui.warn, can_extend=link.pod.cloud.capabilities.change_markers)

        def take_log(data: bytes) -> None:
            if not os.fstat(log.fileno()).st_size:
                note(context, record, "first output")
            _write(log, data)
            line.log(data)

        def take_metrics(data: bytes) -> None:
            _write(metrics, data)
            line.feed(data)
            outlook.look(line.metrics)

        watch = _Watch(context, record, folder, link.pod, session, group)
        status = session.follow(
            {
                "log": JobReader(take_log, folder.log.stat().st_size),
                "metrics": JobReader(take_metrics, folder.metrics.stat().st_size),
            },
            watch.tick,
            watch.on_link,
        )
        for name in session.mend(folder):
            context.ui.warn(f"{name} here was not what the pod has, and was fetched anew")
        return status


def ended_from_outside(context: CommandContext, record: RunRecord, pod: ReachablePod) -> Verdict | None:
    """Return the verdict when the cloud says that nothing runs on the pod any more, None while something may.

    Once the training is done its result may still lie on a pod that was only stopped: then nothing but its absence counts.
    """
    said = pod.over(stopped_too=not record.reached("trained"))
    if said is None:
        return None
    end = parse_time(record.pod.end)
    if end is not None and end.timestamp() <= time.time():
        return Verdict("lease", f"the lease was over at {record.pod.end}: {said}", CloudError.exit_code)
    if ended_by_hand(context, record, pod.id):
        return Verdict("cloud", f"pod {pod.id} was ended by a person, not by the cloud", CloudError.exit_code)
    if record.stop_reason:  # its watchdog's doing, most likely: going on elsewhere is not what the stop was for
        return Verdict("cloud", f"{said}, after the training was told to stop: {record.stop_reason}", CloudError.exit_code)
    return Verdict("cloud", said, CloudError.exit_code, lost=True)


def gone_with_its_key(context: CommandContext, record: RunRecord) -> Verdict | None:
    """Return the verdict on a run whose key is lost (it was another machine's) when the cloud says that its pod is gone, too."""
    return ended_from_outside(context, record, pod_with(context, record, key_file))


def watch_files(context: CommandContext, folder: RunFolder, *, poll: float) -> None:
    """Show the progress that another controller writes, until it lets go of the run."""
    record = folder.load()
    state = state_of(record)
    with _progress(context, record) as line:
        offset, seen = 0, folder.log.stat().st_size if folder.log.is_file() else 0
        while is_driven(folder):
            leave_if_asked(context.ui.leaves)
            seen = _read_on(folder.log, seen, line.log)
            offset = _read_on(folder.metrics, offset, line.feed)
            with contextlib.suppress(UserError):
                record = folder.load()
            if state != (state := state_of(record)):
                tell(context, record, "state")
            time.sleep(poll)


def _read_on(path: Path, offset: int, take: Callable[[bytes], None]) -> int:
    """Hand on what a file has beyond an offset; return where it ends now."""
    if not path.is_file():
        return offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    take(data)
    return offset + len(data)


def _progress(context: CommandContext, record: RunRecord) -> ProgressLine:
    return ProgressLine(context.ui, lambda: cost(record), began_at(record), own=record.recipe == OWN_PROGRAM)


class _Watch:
    """What is looked after while bytes flow: is the pod still there, is the budget used up, do we live."""

    def __init__(
        self, context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod, session: JobSession, group: GroupWatch
    ) -> None:  # fmt: skip
        self.context, self.record, self.folder, self.pod, self.session, self.group = context, record, folder, pod, session, group
        self.lost_since: float | None = None
        self.asked = time.monotonic()
        self.stopping: threading.Thread | None = None
        self.announcement = ""
        self.lease = LeaseWatch(context, record, folder)
        self.shares = BudgetShares(context, record)
        self.trackers = TrackerTroubles(context, folder)
        self.ahead: float | None = None
        self.clock_asked = -math.inf

    def on_link(self, lost: str | None) -> None:
        """Say that the link went or came back; the training goes on either way."""
        self.lost_since = time.monotonic() if lost else None
        self.asked = time.monotonic() - _ASK_CLOUD_EVERY + _ASK_CLOUD_FIRST
        if lost:
            self.context.ui.warn(f"no link to the pod, which the training does not need: {lost}")
        else:
            self.context.ui.say("           link is back")

    def tick(self) -> None:
        """Run about twice a second."""
        now = time.monotonic()
        leave_if_asked(self.context.ui.leaves)
        if self.folder.cancelled_now:
            raise _Over(Verdict("person", "cancelled", 1))
        for path in (self.folder.path / "run.json", self.folder.log):
            if not path.exists():
                raise FolderDeleted(path)
        if self.lost_since is not None and now - self.asked > _ASK_CLOUD_EVERY:
            self.asked = now
            if verdict := ended_from_outside(self.context, self.record, self.pod):
                raise _Over(verdict)
        stalled = self.session.keep() if self.lost_since is None else ""
        self.shares.look(time.time())
        self.trackers.look(now)
        if self.folder.cancelled:
            self._stop("the run is cancelled")
        elif not self.lease.look(due=self._lease_stops(time.time())) and self._due(time.time()) and (why := self._due_by_the_pod()):
            self._stop(why)
        elif stalled or self.group.broken:
            self._stop(stalled or self.group.broken)

    def _due(self, now: float) -> str:
        """Return why the training must stop at a moment, empty when it need not."""
        budget_ends = budget_stop(self.record, now)
        if budget_ends is not None and now >= budget_ends + _WATCHDOG_FIRST:
            return f"the budget of ${self.record.budget:.2f} is used up"
        return "its lease's stop has come" if self._lease_stops(now) else ""

    def _due_by_the_pod(self) -> str:
        """Return the same by the pod's own clock: a wrong one here must not cost a training."""
        if self.lost_since is None and time.monotonic() - self.clock_asked > _ASK_CLOCK_EVERY:
            self.clock_asked = time.monotonic()
            self._ask_clock()
        if self.ahead is None:
            return ""
        why = self._due(time.time() - self.ahead)
        if not why and not self.announcement:
            self.announcement = "clock"
            self.context.ui.warn(
                f"the clock of this machine is {duration(self.ahead)} ahead of the pod's, which counts: the training goes on"
            )
        return why

    def _ask_clock(self) -> None:
        said = self.session.clock()
        if said is not None:
            self.ahead = time.time() - said

    def _lease_stops(self, now: float) -> bool:
        stop = parse_time(self.record.pod.stop)
        return stop is not None and now >= stop.timestamp() + _WATCHDOG_FIRST

    def _stop(self, why: str) -> None:
        """Tell the training to save and end, in a thread: the log comes home meanwhile, and a lost link only means once more."""
        if self.lost_since is not None or (self.stopping is not None and self.stopping.is_alive()):
            return
        if why != self.announcement:
            self.announcement = self.record.stop_reason = why
            self.context.ui.warn(f"{why}: the training is stopped and saved, which may take {duration(self._grace())} at most")
            if self.folder.cancelled:
                self.context.ui.say(f"           invoke cancel {self.record.id} --now ends the pod at once; what is on it is lost")
        self.stopping = threading.Thread(target=self._tell_stop, daemon=True)
        self.stopping.start()

    def _tell_stop(self) -> None:
        with contextlib.suppress(TrainyardError):
            self._ask_clock()
            self.session.stop(self._grace())
        time.sleep(_STOP_AGAIN)

    def _grace(self) -> float:
        """Return how long the training may save: at most half of what is left of the lease, the other half brings it to safety."""
        end = parse_time(self.record.pod.end)
        if end is None:
            return STOP_GRACE
        now = time.time() - (self.ahead or 0.0)
        half = max(1.0, (end.timestamp() - now) / 2)
        if self._lease_stops(now):
            return half
        stop = parse_time(self.record.pod.stop)
        # The watchdog's early end is the rescue time away: what is left must be brought to safety before it.
        early = None if self.folder.cancelled or stop is None else max(1.0, (end - stop).total_seconds() / 3)
        return min(STOP_GRACE, half, early or half)


def _appending(path: Path) -> BinaryIO:
    return open(path, "ab", buffering=0)


def _write(stream: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    with naming(Path(stream.name)):
        while view:
            view = view[os.write(stream.fileno(), view) :]
