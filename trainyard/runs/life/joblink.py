"""How the life of a run speaks with its pod: one interface, over SSH or, on clouds without it, through the run's bucket.

A link is made of the record alone, and asks nobody before it is used: whoever drives the run next makes the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunFolder, RunRecord

if TYPE_CHECKING:
    from trainyard.remote.jobs import JobStatus
    from trainyard.remote.protocol import OnBytes
    from trainyard.runs.life.verdict import Verdict
    from trainyard.runs.records.pod import ReachablePod
    from trainyard.storage.podside import ScannedFiles

JobFile = Literal["log", "metrics"]
"""What a job writes while it runs: its output, and one JSON line a logged step."""


@dataclass(frozen=True, slots=True)
class JobReader:
    """Who takes a file's bytes as they come, and how many of them are there already."""

    sink: OnBytes
    offset: int = 0


class JobSession(Protocol):
    """One listening to a job: its files as they grow, and what it is told. Safe to call from several threads."""

    def follow(
        self,
        readers: Mapping[JobFile, JobReader],
        tick: Callable[[], None] | None = None,
        on_link: Callable[[str | None], None] | None = None,
    ) -> JobStatus:
        """Hand on every byte once, in order, until the job has ended, and return how: exited, lost or absent.

        ``tick`` runs about twice a second, ``on_link`` hears why the link was lost and None when it is back. What the
        sinks and these raise ends the following and leaves the job alone. A lost link is waited out.
        """
        ...

    def copy(self, file: JobFile, sink: OnBytes, *, last: int | None = None) -> None:
        """Hand on what a file holds now, or its last bytes only; nothing of one that is not there. Raises Unreachable."""
        ...

    def keep(self) -> str:
        """Do what a controller that lives owes its pod, when it is due: say so, and see to it that it can commit alone.

        Returns why the pod has told a stalled job to stop, empty where it has not.
        """
        ...

    def stop(self, grace: float) -> None:
        """Tell the job to save and end, end it after ``grace`` seconds, and return when it has; raises TrainyardError when it goes on."""
        ...

    def clock(self) -> float | None:
        """Return the pod's time (epoch seconds), None where it does not tell it now."""
        ...

    def mend(self, folder: RunFolder) -> list[str]:
        """Take the small reports of a job that has ended home, mend copies that are not the pod's, and return those copies' names."""
        ...


class JobAhead(Protocol):
    """What goes to the bucket while a training runs."""

    def end(self) -> ScannedFiles:
        """Let no more go, and return what was hashed on the way."""
        ...


class JobLink(Protocol):
    """A run's pod and how its life speaks with it."""

    @property
    def pod(self) -> ReachablePod:
        """The pod, as its cloud and the record tell it."""
        ...

    def start(self) -> None:
        """Return when the job was started; doing it twice starts one job.

        Raises PodFailed or StoreError for what keeps it from starting, start.Unclear where it may have started.
        """
        ...

    def status(self) -> JobStatus:
        """Return how the job stands. Raises Unreachable where nobody tells."""
        ...

    def is_over(self) -> bool:
        """Tell whether it is known that nothing of the job runs though its files are gone."""
        ...

    def session(self) -> AbstractContextManager[JobSession]:
        """Listen to the job for as long as the block runs."""
        ...

    def ahead(self) -> AbstractContextManager[JobAhead]:
        """Let what is final go into the bucket while the block runs."""
        ...

    def commit(self, known: ScannedFiles) -> Verdict:
        """Judge the training and bring what it left to safety; raises where it cannot be, and the run then has no verdict."""
        ...

    def hand_over(self) -> bool:
        """See to it that the pod commits alone what the training will leave; False where nothing can."""
        ...

    def lease_moved(self) -> None:
        """Let the pod know that its lease was moved, where it does not hear it from its cloud; trouble is told."""
        ...


def link_of(context: CommandContext, record: RunRecord, folder: RunFolder) -> JobLink:
    """Return how a run's pod is spoken with. Raises EngineError where the record does not tell, or its SSH key is lost."""
    from trainyard.runs.records import pod

    if record.container is not None:
        from trainyard.runs.life.bucketlink import BucketLink

        return BucketLink(context, record, folder, pod.pod_of(context, record))
    from trainyard.runs.life.sshlink import SshLink

    return SshLink(context, record, folder, pod.pod_of(context, record))


def copies(folder: RunFolder) -> Mapping[JobFile, Path]:
    """Return where a job's files come home to."""
    return {"log": folder.log, "metrics": folder.metrics}
