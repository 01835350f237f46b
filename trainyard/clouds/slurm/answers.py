"""What the cluster says, as pods: one line of squeue a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

from trainyard.clock import format_time, parse_time
from trainyard.clouds.marker import parse_name
from trainyard.clouds.protocol import PodInfo, PodStatus, SshAddress

SEPARATOR = "\x1f"
FIELDS = SEPARATOR.join(("%i", "%T", "%V", "%S", "%e", "%D", "%P", "%r", "%k", "%j"))
"""squeue's format: id, state, submitted, start (estimated while it waits), end, nodes, partition, reason, comment, name."""

STATES: Mapping[str, PodStatus] = {
    "PENDING": "accepted", "REQUEUED": "accepted", "REQUEUE_HOLD": "accepted", "SPECIAL_EXIT": "accepted", "REQUEUE_FED": "accepted",
    "CONFIGURING": "starting", "RUNNING": "running", "SUSPENDED": "running", "STOPPED": "running", "RESIZING": "running",
    "SIGNALING": "running", "STAGE_OUT": "terminating", "COMPLETING": "terminating",
}  # fmt: skip
FINAL: Mapping[str, str] = {
    "BOOT_FAIL": "its nodes did not boot", "CANCELLED": "it was cancelled", "COMPLETED": "its batch script has ended",
    "DEADLINE": "it could not have begun in time for its lease", "FAILED": "its batch script has failed", "NODE_FAIL": "a node has failed",
    "OUT_OF_MEMORY": "it has used more memory than it was given", "PREEMPTED": "another job has taken its nodes",
    "REVOKED": "another cluster of the federation has it", "TIMEOUT": "its time limit is reached",
}  # fmt: skip
"""Of such a job nothing runs or waits any more, and nothing will; and what that means."""


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One job as squeue tells it."""

    id: str
    state: str
    submitted: datetime | None
    start: datetime | None
    end: datetime | None
    reason: str
    marks: Mapping[str, str]
    name: str

    @property
    def workspace(self) -> str:
        """Its own folder; empty for a job that is no pod of ours."""
        folder = self.marks.get("folder")
        return f"{folder}-{self.id}" if folder else ""

    @property
    def final(self) -> bool:
        """Tell whether it is over, for good."""
        return self.state in FINAL

    @property
    def words(self) -> str:
        """Return how it stands, for a person."""
        said = FINAL.get(self.state) or (self.reason if self.reason not in ("None", "") else "")
        when = ""
        if STATES.get(self.state) == "accepted":
            when = f"; the cluster expects its start at {format_time(self.start)}" if self.start else ""
        return self.state + (f" ({said}{when})" if said or when else "")


def read_jobs(text: str) -> list[SlurmJob]:
    """Return the jobs of squeue's lines; what a foreign job's name continues on a next line is none."""
    return [_job(line) for line in text.split("\n") if line.count(SEPARATOR) >= FIELDS.count(SEPARATOR)]


def _job(line: str) -> SlurmJob:
    number, state, submitted, start, end, _, _, reason, comment, name = line.split(SEPARATOR, 9)
    marks = dict(parse_qsl(comment)) if comment.startswith("trainyard=") else {}
    return SlurmJob(number, state, _moment(submitted), _moment(start), _moment(end), reason, marks, name)


def marks_of(values: Mapping[str, object]) -> str:
    """Return the comment of a job that carries what a listing must tell."""
    return urlencode({"trainyard": "1", **{name: str(value) for name, value in values.items() if value is not None}})


def pod_of(job: SlurmJob, login: str, command: tuple[str, ...]) -> PodInfo:
    """Return a job as a pod. Its lease's hours begin when it starts: while it runs, its end is the cluster's."""
    ids, marks = parse_name(job.name), job.marks
    status: PodStatus = "exited" if job.final else STATES.get(job.state, "unknown")
    end, rescue = parse_time(marks.get("end", "")), timedelta(seconds=float(marks.get("rescue", "0")))
    if status == "running" and job.end is not None:
        end = job.end if end is None else min(job.end, end)
    sending = command[:-1] if marks.get("internet") == "login" else ()
    gpus = int(marks.get("gpus", "0"))
    return PodInfo(
        id=f"{login}:{job.id}",
        name=job.name,
        status=status,
        raw_status=job.words,
        price_per_hour=0.0,
        created=job.submitted,
        fence_id=ids.fence_id if ids else None,
        lease_id=ids.lease_id if ids else None,
        stop=end - rescue if end is not None else None,
        end=end,
        end_unreadable=ids is not None and end is None,
        ssh=SshAddress(login, 22, "", command, sending) if status == "running" and job.workspace else None,
        gpu=marks.get("gpu") if gpus else None,
        gpu_count=gpus,
        region=login,
        workspace=job.workspace or "/workspace",
        volume=marks.get("volume"),
    )


def _moment(text: str) -> datetime | None:
    return datetime.fromtimestamp(int(text), UTC) if text.isdigit() else None
