"""A run's container on a cloud without SSH: what it tells and is told goes through the run's bucket, for whoever has that."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from trainyard.clock import parse_time
from trainyard.errors import CloudError, PodFailed, StoreError, TrainyardError
from trainyard.remote import jobs
from trainyard.remote.jobs import JobStatus
from trainyard.remote.protocol import OnBytes
from trainyard.runs.context import CommandContext
from trainyard.runs.life import alone
from trainyard.runs.life.heartbeat import stalled
from trainyard.runs.life.joblink import JobFile, JobReader, JobSession
from trainyard.runs.life.verdict import Verdict
from trainyard.runs.records.home import REPORTS, STATUS
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.signals import leave_if_asked
from trainyard.storage import live, seal
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings
from trainyard.storage.live import LiveStatus
from trainyard.storage.manifest import ResultKey
from trainyard.storage.podside import ScannedFiles

SILENT = 60.0
"""Seconds: a container writes its status every 20 at least; one that has not for so long counts as out of reach."""
_LOOK = 1.0
_TICK = 0.5
_SLOWEST = 3.0
_EARLY = ("preparing", "data")
_OVER = ("failed", "lost")


@dataclass(slots=True)
class BucketLink:
    """See joblink.JobLink."""

    context: CommandContext
    record: RunRecord
    folder: RunFolder
    pod: ReachablePod

    def start(self) -> None:
        """Wait until the container has started the job by itself; what it is doing meanwhile is said."""
        from trainyard.runs.life import start

        shown, moved, last = "", time.monotonic(), -1.0
        with self.context.ui.stage("start", "the container fetches its data and starts the job"):
            while True:
                leave_if_asked(self.context.ui.leaves)
                said = self.heard()
                if said is not None and said.phase in _OVER:
                    raise PodFailed(f"the container says: {said.why}")
                if said is not None and said.phase not in _EARLY:
                    break
                if said is not None and said.time != last:
                    last, moved = said.time, time.monotonic()
                if said is not None and said.note != shown:
                    shown = said.note
                    self.context.ui.say(f"           {shown}")
                if time.monotonic() - moved > SILENT and (over := self.pod.over()) is not None:
                    raise PodFailed(f"{over} before its job had started")
                time.sleep(_LOOK)
        if said.sha256:  # what nobody had read before is known now: whoever resumes gets these bytes or none
            files = tuple(replace(item, sha256=said.sha256.get(item.dest, item.sha256)) for item in self.record.data.files)
            self.record.data = replace(self.record.data, files=files)
        start.tell_of_watchdog(self.context, self.record, dict(said.watchdog))

    def status(self) -> JobStatus:
        """Return what the container last told of its job."""
        said = self.heard()
        return JobStatus("absent") if said is None or said.phase in (*_EARLY, *_OVER) else jobs.read_status(said.job)

    def is_over(self) -> bool:
        """Tell whether the container has said that the job's files are gone: nothing of it runs in another one."""
        said = self.heard()
        return said is not None and said.phase in _OVER

    @contextmanager
    def session(self) -> Iterator[JobSession]:
        """Read the bucket."""
        yield BucketSession(self, self.record.pod.end)

    @contextmanager
    def ahead(self) -> Iterator[NothingAhead]:
        """Let nothing go ahead: the container sends when its job has ended."""
        yield NothingAhead()

    def commit(self, known: ScannedFiles) -> Verdict:
        """Wait until the container's watchdog has committed what the job left, and seal it."""
        from trainyard.runs.life import finish

        settings, where, shown = self.store(), self.where(), ""
        while True:
            try:
                if self.folder.cancelled_now:
                    return Verdict("person", "cancelled", 1)
                if seal.read(settings, where.pod_committed) is not None or seal.read_result(settings, where) is not None:
                    verdict = finish.find_result(self.context, self.record, self.folder)
                    if verdict is not None:
                        return verdict
                said = self.heard()
            except StoreError as error:
                if not error.passing:
                    raise
                said = None
                self.context.ui.warn(f"{error.message}\nIt is asked again: the result is the container's to commit")
            if said is not None and said.phase in _OVER:
                return Verdict("training", f"the training has no verdict: {said.why}", 1, lost=said.phase == "lost")
            doing = str(said.watchdog.get("alone") or "") if said is not None else ""
            if doing and doing != shown:
                shown = doing
                self.context.ui.say(f"           {doing}")
            if (said is None or time.time() - said.time > SILENT) and (over := self.pod.over()) is not None:
                # A command that has ended never goes on: what is not in the bucket by now will not come.
                late = finish.find_result(self.context, self.record, self.folder)
                return late or Verdict("cloud", f"{over}, and it had not committed what its job left", CloudError.exit_code, lost=True)
            time.sleep(_SLOWEST)

    def hand_over(self) -> bool:
        """Know that the container commits by itself: it was made so."""
        return True

    def lease_moved(self) -> None:
        """Tell the container its lease and, where its URLs would end before, give it others."""
        from trainyard.runs.life import container

        try:
            stop, end = (parse_time(moment) for moment in (self.record.pod.stop, self.record.pod.end))
            if stop is not None and end is not None:
                orders: dict[str, object] = {"lease": {"stop": stop.timestamp(), "end": end.timestamp()}}
                known = self.record.container
                if known is not None and (known.until or 0.0) < end.timestamp():
                    orders |= container.longer_links(self.context, self.record, self.folder, end.timestamp())
                self.order(orders)
        except (OSError, TrainyardError) as error:
            again = f"Again: invoke attach {self.record.id}"
            self.context.ui.warn(f"the container does not know of its longer lease yet: {error}\n{again}")

    def heard(self) -> LiveStatus | None:
        """Return what the container last told; raises StoreError."""
        return live.status_of(self.store(), self.where(), self.secret())

    def order(self, orders: Mapping[str, object]) -> None:
        """Tell the container something; raises StoreError."""
        live.put_orders(self.store(), self.where(), self.secret(), orders)

    def store(self) -> StoreSettings:
        """Return the run's bucket; raises StoreError where its keys are not set here."""
        settings = store_of(self.context, self.record.bucket)
        if settings is None:
            raise StoreError(f"no keys of the bucket of {self.record.id} are set, and its container is reached by nothing else")
        return probed(settings)

    def where(self) -> ResultKey:
        """Return the attempt as the bucket knows it."""
        return ResultKey(self.record.user, self.record.label, self.record.attempt)

    def secret(self) -> str:
        """Return what proves to the container that it is we who speak, and to us that it is the container."""
        return alone.secret_for(self.store(), self.record, self.folder)


class NothingAhead:
    """See joblink.JobAhead."""

    def end(self) -> ScannedFiles:
        """Return nothing: no file was hashed."""
        return {}


@dataclass(slots=True)
class BucketSession:
    """See joblink.JobSession."""

    link: BucketLink
    end: str | None
    """Of the lease, as the container knows it."""
    ahead: float | None = None
    """Seconds by which the container's clock is ahead of this machine's."""
    stalled: str = ""

    def follow(
        self,
        readers: Mapping[JobFile, JobReader],
        tick: Callable[[], None] | None = None,
        on_link: Callable[[str | None], None] | None = None,
    ) -> JobStatus:
        """Read its status every second, and of each file what that says is new."""
        offsets = {name: reader.offset for name, reader in readers.items()}
        lost, last, moved, looked, cut = False, -1.0, time.monotonic(), 0.0, False
        said: LiveStatus | None = None
        while True:
            if time.monotonic() - looked >= _LOOK:
                looked, why = time.monotonic(), ""
                try:
                    said = self.link.heard()
                    if said is not None:
                        self.stalled = stalled(said.watchdog)
                        for name, reader in readers.items():
                            offsets[name] = self._read(said, name, offsets[name], reader.sink)
                except StoreError as error:
                    why = error.message
                if said is not None and said.time != last:
                    last, moved = said.time, time.monotonic()
                    self.ahead = said.time - time.time() if self.ahead is None else max(self.ahead, said.time - time.time())
                elif time.monotonic() - moved > SILENT:
                    why = why or f"the container has not been heard of for {time.monotonic() - moved:.0f} s"
                if bool(why) != lost and on_link is not None:
                    lost = bool(why)
                    on_link(why or None)
                if not why and said is not None and (status := _ending(said)) is not None:
                    if cut or all(said.whole.get(name, True) for name in readers):
                        return status
                    cut = said.phase != "ended"  # it says no more: what is missing is in the result
            if tick is not None:
                tick()
            time.sleep(_TICK)

    def _read(self, said: LiveStatus, name: JobFile, offset: int, sink: OnBytes) -> int:
        if said.sent.get(name, 0) > offset:
            for piece in live.pieces(self.link.store(), self.link.where(), name, offset):
                sink(piece)
                offset += len(piece)
        return offset

    def copy(self, file: JobFile, sink: OnBytes, *, last: int | None = None) -> None:
        """Read what is there."""
        said = self.link.heard()
        sent = said.sent.get(file, 0) if said is not None else 0
        if sent:
            for piece in live.pieces(self.link.store(), self.link.where(), file, max(0, sent - last) if last else 0):
                sink(piece)

    def keep(self) -> str:
        """Tell it of a lease that was moved; else it is owed nothing: it commits by itself, whoever lives."""
        if self.link.record.pod.end != self.end:
            self.end = self.link.record.pod.end
            self.link.lease_moved()
        return self.stalled

    def stop(self, grace: float) -> None:
        """Leave the order, and wait until the job has ended."""
        why = self.link.record.stop_reason or "told to stop"
        self.link.order({"stop": {"grace": grace, "why": "cancelled" if self.link.folder.cancelled else why}})
        until = time.monotonic() + grace + SILENT
        while time.monotonic() < until:
            said = self.link.heard()
            if said is not None and _ending(said) is not None:
                return
            time.sleep(_LOOK)
        raise PodFailed(f"pod {self.link.pod.id}: the job goes on, {grace + SILENT:.0f} s after it was told to end")

    def clock(self) -> float | None:
        """Return the container's time as its words have shown it, some seconds behind."""
        return None if self.ahead is None else time.time() + self.ahead

    def mend(self, folder: RunFolder) -> list[str]:
        """Write the small reports that came with the status; logs are compared with the result, when that is sealed."""
        with contextlib.suppress(TrainyardError, OSError):
            said = self.link.heard()
            for name, text in (said.reports if said is not None else {}).items():
                if name in (*REPORTS, STATUS):
                    (folder.path / name).write_text(text, encoding="utf-8")
        return []


def _ending(said: LiveStatus) -> JobStatus | None:
    """Return how a job ended, None while it may run."""
    if said.phase in _OVER:
        return JobStatus("absent")
    status = jobs.read_status(said.job)
    return status if status.ended else None
