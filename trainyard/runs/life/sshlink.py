"""A run's pod over SSH: its job is started by a playbook, followed and fetched by commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from trainyard.errors import HostKeyChanged, Unreachable
from trainyard.remote import jobs
from trainyard.remote.follow import Tail
from trainyard.remote.follow import follow as follow_job
from trainyard.remote.jobs import JobStatus
from trainyard.remote.protocol import OnBytes, Transport, quote
from trainyard.remote.reconnect import Reconnecting
from trainyard.runs.context import CommandContext
from trainyard.runs.life.alone import LonePlan
from trainyard.runs.life.heartbeat import EVERY, beat
from trainyard.runs.life.joblink import JobAhead, JobFile, JobReader, JobSession, copies
from trainyard.runs.life.verdict import Verdict
from trainyard.runs.records.home import mend_copies, take_reports
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.storage.podside import ScannedFiles

_WHERE: Mapping[JobFile, tuple[str, str]] = {"log": ("job", "log"), "metrics": ("output", "metrics.jsonl")}


@dataclass(frozen=True, slots=True)
class SshLink:
    """See joblink.JobLink."""

    context: CommandContext
    record: RunRecord
    folder: RunFolder
    pod: ReachablePod

    def start(self) -> None:
        """Prove the pod, put bundle and data on it with their hashes, start the job; that of pods that train with it before."""
        from trainyard.runs.life import start
        from trainyard.runs.life.group import peers_of

        # The first pod's is started last: while it is not, nothing trains, and all is done once more.
        for number, peer in enumerate(peers_of(self.context, self.record), 1):
            start.start(self.context, self.record, self.folder, peer, number)
        start.start(self.context, self.record, self.folder, self.pod)

    def status(self) -> JobStatus:
        """Ask over a connection of its own."""
        with self.pod.connect() as transport:
            return jobs.status(transport, self.pod.path("job"))

    def is_over(self) -> bool:
        """Look for processes of the job."""
        with self.pod.connect() as transport:
            return jobs.is_over(transport, self.pod.path("job"), f"OUTPUT_DIR={self.pod.path('output')}")

    @contextmanager
    def session(self) -> Iterator[JobSession]:
        """Connect when it is needed, and again after each loss."""
        with Reconnecting(self.pod.connect, name=f"pod {self.pod.id}") as transport:
            yield SshSession(self.pod, transport, LonePlan(self.context, self.record, self.folder, self.pod))

    def ahead(self) -> AbstractContextManager[JobAhead]:
        """Send from here what is final: the pod has URLs for it one by one."""
        from trainyard.runs.life import ahead

        return ahead.beside(self.context, self.record, self.folder, self.pod)

    def commit(self, known: ScannedFiles) -> Verdict:
        """Commit to the bucket, or bring it home where there is none."""
        from trainyard.runs.life import finish

        return finish.commit(self.context, self.record, self.folder, self.pod, known)

    def hand_over(self) -> bool:
        """Give the pod's watchdog a plan."""
        from trainyard.runs.life import alone

        return alone.hand_over(self.context, self.record, self.folder)

    def lease_moved(self) -> None:
        """Renew the plan, whose URLs end with the lease."""
        from trainyard.runs.life import alone

        alone.renew(self.context, self.record, self.folder)


@dataclass(slots=True)
class SshSession:
    """See joblink.JobSession."""

    pod: ReachablePod
    transport: Transport
    plan: LonePlan
    beaten: float = field(default_factory=time.monotonic)
    stalled: str = ""

    def follow(
        self,
        readers: Mapping[JobFile, JobReader],
        tick: Callable[[], None] | None = None,
        on_link: Callable[[str | None], None] | None = None,
    ) -> JobStatus:
        """Read each file by a channel of its own."""
        tails = [Tail(self.pod.path(*_WHERE[name]), reader.sink, reader.offset) for name, reader in readers.items()]
        return follow_job(self.transport, self.pod.path("job"), tails, tick=tick, on_link=on_link)

    def copy(self, file: JobFile, sink: OnBytes, *, last: int | None = None) -> None:
        """Read it once."""
        program = "cat" if last is None else f"tail -c {last}"
        self.transport.exec(f"{program} {quote(self.pod.path(*_WHERE[file]))}", on_stdout=sink)

    def keep(self) -> str:
        """Touch the watchdog's heartbeat twice a minute, and send the plan to commit alone when it is due."""
        if time.monotonic() - self.beaten > EVERY:
            self.beaten = time.monotonic()
            try:
                self.stalled = beat(self.transport, self.pod)
            except HostKeyChanged:
                raise
            except Unreachable:
                pass  # the readers notice it themselves and say so
        self.plan.tick()
        return self.stalled

    def stop(self, grace: float) -> None:
        """Send TERM to the job, KILL after ``grace`` seconds."""
        jobs.stop(self.transport, self.pod.path("job"), grace=grace)

    def clock(self) -> float | None:
        """Ask the pod for its time."""
        try:
            answer = self.transport.exec("date +%s", timeout=10).stdout.strip()
        except Unreachable:
            return None
        return float(answer) if answer.isdigit() else None

    def mend(self, folder: RunFolder) -> list[str]:
        """Compare by sha256."""
        take_reports(self.transport, self.pod.path("output"), folder)
        return mend_copies(self.transport, {self.pod.path(*_WHERE[name]): path for name, path in copies(folder).items()})
