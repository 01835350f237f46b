"""Which road a result takes: into its bucket or, where that stays shut, home over SSH and from there into the bucket.

Brief trouble decides nothing: a lost link is waited for, a store that fails for the moment is asked again, and where
neither road goes both are tried until the lease leaves no time for it. What only came home is pushed and sealed when
the pod has gone, by this controller or by the next `invoke recover`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from trainyard.clock import REAL, Clock, parse_time
from trainyard.errors import DiskFull, ForeignResult, HostKeyChanged, PodCannotUpload, StoreError, TrainyardError, Unreachable
from trainyard.remote.protocol import Transport
from trainyard.retries import LINK, Backoff
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.datastore import transfer_lines
from trainyard.runs.records.home import COPIES
from trainyard.runs.records.movedlease import LeaseWatch
from trainyard.runs.records.parts import RunResult
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.pods import note_gone
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.storage import commit as storage_commit
from trainyard.storage import direct, live
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import DeliveryPatience, OnProgress, Progress, silent
from trainyard.storage.expiry import expiry_of
from trainyard.storage.manifest import Keep, LeftOut, ResultKey
from trainyard.storage.podside import ScannedFiles
from trainyard.storage.push import push

T = TypeVar("T")

STORE_PATIENCE = 900.0
"""Seconds a store may fail before the result comes home over SSH: the pod costs money meanwhile, and a push can follow."""
POD_PATIENCE = 180.0
"""The same for a store that only the pod cannot reach: a firewall does not open."""
MARGIN = 300.0
RATE = 10e6
"""What the road over SSH must be left: some minutes, and a second for each of these bytes."""
_BOTH_ROADS = Backoff(30.0, 300.0)
_ONE_ROAD = Backoff(5.0, 60.0)
_NO_LEASE = 6 * 3600.0
_ASK_CLOUD_EVERY = 20.0
_TELL_AGAIN = 600.0
_LONE = "the pod committed it alone"


class GivenUp(Exception):
    """A person wants the run's end without anything saved."""


@dataclass(frozen=True, slots=True)
class ResultSelection:
    """What of the output folder is the result; with ``keep`` it is what a training left that was no success."""

    outputs: Sequence[str]
    excludes: Sequence[str]
    keep: Keep | None = None


class DeliveryRoad:
    """The way of one result to safety, over one transport that is dialled again when its link was lost."""

    def __init__(
        self,
        context: CommandContext,
        record: RunRecord,
        folder: RunFolder,
        pod: ReachablePod,
        transport: Transport,
        known: ScannedFiles | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.context, self.record, self.folder, self.pod, self.transport = context, record, folder, pod, transport
        self.known, self.clock = known, clock or REAL
        self.key = ResultKey(record.user, record.label, record.attempt)
        LeaseWatch(context, record, folder).look()
        end = parse_time(record.pod.end)
        self.end = end.timestamp() if end else self.clock.now() + _NO_LEASE
        self.began = self.clock.now()
        self.size, self.asked, self.warned_at, self.lost, self.shown = 0, 0.0, 0.0, False, ""
        self.far: OnProgress = silent

    def linked(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, called again after each lost link; raises its Unreachable when the pod or its lease is over."""
        pauses = LINK.pauses()
        while True:
            self._look()
            try:
                return call()
            except HostKeyChanged:
                raise
            except Unreachable as error:
                if not self.lost or self.clock.now() - self.warned_at > _TELL_AGAIN:
                    self.lost, self.warned_at = True, self.clock.now()
                    self.context.ui.warn(f"no link to the pod, waiting for it: {error}")
                if self.clock.now() >= self.end or self._is_over():
                    raise
                self.clock.pause(next(pauses))

    def save(self, selection: ResultSelection) -> RunResult:
        """Bring the result to safety and return where it is.

        Raises what the last road said when none goes and no time is left, GivenUp when a person wants nothing saved.
        """
        settings = store_of(self.context, self.record.bucket, self.record.pod.end)
        if settings is None:
            self.context.ui.warn("no bucket is set: the result is fetched over SSH before the pod is ended")
            return replace(self._home(selection), road="ssh", road_why="no bucket is set")
        pauses = _BOTH_ROADS.pauses()
        while True:
            try:
                return replace(self._bucket(settings, selection), road="bucket")
            except StoreError as error:
                problem = error
            try:
                self.context.ui.warn(f"{problem.message}\nThe result comes home over SSH instead.")
                owed = not isinstance(problem, ForeignResult)
                return replace(self._home(selection), road="ssh", road_why=problem.message, owed=owed)
            except (HostKeyChanged, Unreachable):
                raise
            except TrainyardError as error:
                both = f"{problem.message}; and over SSH: {error.message}"
                if not problem.passing or self.clock.now() >= self._last():
                    raise (DiskFull if isinstance(error, DiskFull) else StoreError)(both, hint=error.hint) from error
                self.context.ui.warn(f"{both}\nBoth are tried again until {_hour(self._last())}.")
                self._wait(next(pauses))

    def _bucket(self, settings: StoreSettings, selection: ResultSelection) -> RunResult:
        tries = 0
        while True:
            try:
                done = self.linked(lambda: self._commit(settings, selection))
                self._tell_lost(done.left_out)
                self._tell_expiry(settings, self.key.kept if done.ending else self.key.success)
                note_gone(self.record, parse_time(done.pod_time))  # its pod had committed alone, and another machine has sealed it
                return run_result(done)
            except StoreError as error:
                now = self.clock.now()
                over = self.began + (POD_PATIENCE if isinstance(error, PodCannotUpload) else STORE_PATIENCE)
                if not error.passing or now >= min(over, self._last()):
                    raise
                if not tries:
                    until = _hour(min(over, self._last()))
                    self.context.ui.warn(f"{error.message}\nIt is tried again until {until}; then the result comes home over SSH.")
                self._wait(_ONE_ROAD.pause(tries + 1))
                tries += 1

    def _commit(self, settings: StoreSettings, selection: ResultSelection) -> storage_commit.Committed:
        return storage_commit.commit(
            settings, self.transport, self.key, self.pod.path("output"), selection.outputs, selection.excludes, token=self.record.token,
            keep=selection.keep, on_progress=self._progress, patience=DeliveryPatience(pause=self.clock.pause),
            volume=self.record.pod.volume_path, known=self.known,
        )  # fmt: skip

    def _home(self, selection: ResultSelection) -> RunResult:
        home = self.record.id.home(self.context.places.root / "out")
        outputs = [*selection.outputs, "status.json"] if selection.keep else selection.outputs  # what a bucket holds among the logs
        got = self.linked(
            lambda: direct.fetch(
                self.transport, self.key, self.pod.path("output"), outputs, selection.excludes, home, token=self.record.token,
                keep=selection.keep, copies=COPIES, on_progress=self._progress, pause=self.clock.pause, known=self.known,
            )
        )  # fmt: skip
        for path, now in got.moved:
            self.context.ui.warn(f"{path} was there with other bytes than the result's: it is {now.name} now")
        self._tell_lost(got.left_out)
        return run_result(got)

    def _progress(self, progress: Progress) -> None:
        self._look()
        self.size = max(self.size, progress.total)
        if self.lost:
            self.lost = False
            self.context.ui.say("           link is back")
        if progress.text and progress.text != self.shown:
            self.shown, self.far = progress.text, transfer_lines(self.context.ui, self.clock.now)
            self.context.ui.say(f"           {progress.text}")
        elif progress.total:
            self.far(progress)

    def _tell_lost(self, left_out: Sequence[LeftOut]) -> None:
        """Warn of what should be in the result and is not: it goes with the pod."""
        lost = [entry for entry in left_out if entry.wanted]
        for entry in lost[:10]:
            self.context.ui.warn(f"not in the result: {entry.path}: {entry.why}")
        if len(lost) > 10:
            self.context.ui.warn(f"not in the result: {len(lost) - 10} more (run-summary.json names them)")

    def _tell_expiry(self, settings: StoreSettings, key: str) -> None:
        if (expiry := expiry_of(settings, key)) is not None:
            self.context.ui.warn(f"the store says that it will delete {settings.url}/{key} {expiry}: fetch the result, or change that rule")

    def _look(self) -> None:
        if self.folder.cancelled_now:
            raise GivenUp

    def _wait(self, seconds: float) -> None:
        self._look()
        self.clock.pause(max(1.0, min(seconds, self._last() - self.clock.now())))

    def _is_over(self) -> bool:
        """Ask the cloud, now and then, whether there is still a pod to wait for."""
        if self.clock.now() - self.asked < _ASK_CLOUD_EVERY:
            return False
        self.asked = self.clock.now()
        return self.pod.over() is not None

    def _last(self) -> float:
        """Return when the road over SSH must be taken at the latest."""
        return self.end - MARGIN - self.size / RATE


def _hour(moment: float) -> str:
    return time.strftime("%H:%M UTC", time.gmtime(moment))


def run_result(done: storage_commit.Committed | direct.Fetched) -> RunResult:
    """Return what a record keeps of a result."""
    what = RunResult(
        manifest_sha256=done.manifest_sha256, files=done.files, bytes=done.bytes, kept=done.ending,
        left_out=tuple((entry.path, entry.size) for entry in done.left_out if not entry.wanted),
        not_carried=tuple((entry.path, entry.why) for entry in done.left_out if entry.wanted),
    )  # fmt: skip
    if isinstance(done, direct.Fetched):
        return replace(what, local_path=str(done.path))
    return replace(what, s3_url=done.s3_url, s3_key=done.s3_key, logs_url=done.logs_url, road_why=_LONE if done.pod_time else None)


def is_owed(record: RunRecord) -> bool:
    """Tell whether a result came home and should be in the bucket, too."""
    return record.result is not None and record.result.owed


def settle(context: CommandContext, record: RunRecord, folder: RunFolder) -> bool:
    """When the pod has gone: push a result that only came home, else leave no upload open; True when the result was pushed.

    Trouble is told with the command that goes on, and changes nothing.
    """
    try:
        settings = store_of(context, record.bucket)
        if settings is None:
            return False
        if is_owed(record):
            _push(context, record, folder, settings)
            return True
        if record.result is None and record.begun:
            storage_commit.drop_open(settings, ResultKey(record.user, record.label, record.attempt))
        if record.container is not None:
            # What its job wrote is in the result; without one these parts are all that there is.
            live.remove(settings, ResultKey(record.user, record.label, record.attempt), files=record.result is not None)
    except TrainyardError as error:
        if is_owed(record):
            path = record.result.local_path if record.result else None
            context.ui.warn(f"the result lies in {path} and not in the bucket yet: {error}\nBring it there with: invoke recover")
        else:
            where = f"See them with: invoke audit --stack {record.environment}"
            context.ui.warn(f"parts of an upload may be left in the bucket: {error}\n{where}")
    return False


def _push(context: CommandContext, record: RunRecord, folder: RunFolder, settings: StoreSettings) -> None:
    home = record.result
    assert home is not None and home.local_path is not None  # what is owed came home
    logs = {"train.log": folder.log, "metrics.jsonl": folder.metrics, "config.json": folder.bundle / "config.json"}
    with context.ui.stage("push", "what came home, into the bucket"):
        done = push(settings, Path(home.local_path), {name: path for name, path in logs.items() if path.is_file()})
    record.result = replace(run_result(done), local_path=home.local_path, road="ssh, then bucket", road_why=home.road_why)
