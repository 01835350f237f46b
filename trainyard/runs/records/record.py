"""The record of one attempt at the controller: what was asked, how far it has come, who drives it.

``run.json`` is replaced atomically at each change, so a controller killed at any instant leaves a state
that the next one continues from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from trainyard.clock import format_time
from trainyard.errors import Busy, UserError
from trainyard.filelock import acquire_now, hold_lock
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.recipes.summaries import NO_DATA, CodeSummary, DataSummary, Values
from trainyard.runs.records import codec
from trainyard.runs.records.cacheplan import CachePlan
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.parts import NO_POD, JobKeys, PaidPod, ReckonedTraining, RunBucket, RunContainer, RunPod, RunResult, StartedFrom

Phase = Literal["prepared", "up", "started", "trained", "committed", "ended"]
PHASES: tuple[Phase, ...] = ("prepared", "up", "started", "trained", "committed", "ended")


@dataclass(slots=True)
class RunRecord:
    """One attempt. Times are epoch seconds; money is in dollars.

    ``error`` is the verdict of a run that did not go well: once it is there the pod may be ended. Trouble of a
    controller never stands in it.
    """

    user: str
    label: str
    attempt: int
    environment: str
    recipe: str
    values: Values
    bundle_sha256: str
    hours: float
    created: float
    token: str = ""
    """What makes this attempt known, whatever it is called; empty in records that are older than tokens."""
    phase: Phase = "prepared"
    cloud: str = ""
    starting: bool = False
    budget: float | None = None
    """What this attempt may use."""
    disks_per_hour: float = 0.0
    """Dollars that the cloud bills for the disks of its pod, beside the pod's price."""
    spent_before: float = 0.0
    """What the attempts had cost that this one goes on from; their budget was this much more."""
    keep_checkpoints: int = 1
    """How many checkpoints are kept in the bucket while it trains."""
    checkpoint_minutes: float = 10.0
    resumes: int = 0
    """How often the run may be resumed by itself, should its pod be lost."""
    resumed_from: StartedFrom | None = None
    init_from: StartedFrom | None = None
    tracked_as: str = ""
    """What trackers know the run by that it goes on from; empty: it is the first of its kind."""
    pod_secrets: list[str] = field(default_factory=list)
    """Names of the variables that the job gets; their values are nowhere here."""
    job_keys: JobKeys | None = None
    """The keys of the bucket that the job gets; None: none."""
    pod_env: list[str] = field(default_factory=list)
    """Names of the container's variables that the settings declare: the job has them too."""
    data: DataSummary = NO_DATA
    code: CodeSummary | None = None
    """The person's own code; its list of files lies in the bundle."""
    bucket: RunBucket | None = None
    git_commit: str | None = None
    snapshot_sha256: str | None = None
    """Of what the run was made of (snapshot.py); None: that was not kept yet."""
    rerun_of: str | None = None
    """The attempt whose recipe, values, data and code it has."""
    entry: str = ""
    """The entry of the queue that it was begun for; empty: none."""
    key: str | None = None
    """The idempotency key that it was asked for with."""
    versions: dict[str, str] = field(default_factory=dict)
    reckoned: ReckonedTraining | None = None
    engine: str | None = None
    cache: CachePlan | None = None
    """The model cache that its pod mounts; None: it has none, or goes without."""
    deliver: str | None = None
    """Where the result goes after the run, as `invoke deliver RUN --to PLACE` takes it; a folder's path is absolute."""
    pod: RunPod = NO_POD
    peers: list[RunPod] = field(default_factory=list)
    """Pods that train with it; the result is the pod's alone."""
    container: RunContainer | None = None
    """Its cloud has no SSH: the run is its container's command; None: it is reached over SSH."""
    pods: list[PaidPod] = field(default_factory=list)
    """Every pod that was accepted for the run, in that order."""
    stages: dict[str, float] = field(default_factory=dict)
    training_began: float | None = None
    """When this controller had it started."""
    job_seconds: float | None = None
    """How long the training ran, by its pod's clock."""
    exit_code: int | None = None
    vanished: str | None = None
    """What is known of a job that is no more and left no exit code."""
    stop_reason: str | None = None
    """Why this controller told the training to stop."""
    training_success: bool | None = None
    cancelled: bool = False
    keep_minutes: float = 0.0
    """How long its pod stays for a look when the training has failed."""
    kept_until: float | None = None
    """Epoch seconds; None: it is not kept, or not yet."""
    commit_alone_minutes: float = 0.0
    """Minutes without a controller after which its pod commits alone what the training left; 0: never."""
    commits_alone: bool = False
    """Its pod holds a plan for that."""
    result: RunResult | None = None
    error: str | None = None
    error_code: int | None = None
    ended: float | None = None
    lost: bool = False
    """Its pod was taken by the cloud: neither by its lease nor by a person."""
    checkpoint: str | None = None
    """The newest checkpoint that can be gone on from, once the attempt has ended without success."""
    unknown: Mapping[str, object] = field(default_factory=dict)
    """What another version keeps in a record and this one does not know: it is written again as it was."""

    @property
    def id(self) -> RunId:
        """The attempt's name."""
        return RunId(self.user, self.label, self.attempt)

    @property
    def per_hour(self) -> float:
        """Dollars an hour that its pods really cost: their price, and their disks where the cloud bills them."""
        return sum(pod.price + (self.disks_per_hour if pod.price else 0.0) for pod in self.group)

    @property
    def group(self) -> list[RunPod]:
        """The pods that train together, the one with the result first."""
        return [self.pod, *self.peers]

    @property
    def begun(self) -> bool:
        """Tell whether a training may run on the pod: it was started, or a controller died while it started it."""
        return self.starting or self.reached("started")

    @property
    def judged(self) -> bool:
        """Tell whether the run has its verdict: only then may its pod be ended."""
        return self.error is not None or self.reached("committed")

    def reached(self, phase: Phase) -> bool:
        """Tell whether the attempt has come at least so far."""
        return PHASES.index(self.phase) >= PHASES.index(phase)


class RunFolder:
    """The attempt's folder: record, bundle, logs, settings of its stack."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def bundle(self) -> Path:
        """What is sent to the pod."""
        return self.path / "bundle"

    @property
    def snapshot(self) -> Path:
        """What the run was made of, beside its bundle."""
        return self.path / "snapshot"

    @property
    def playbooks(self) -> Path:
        """The playbooks as they were when the run was prepared."""
        return self.path / "playbooks"

    @property
    def config(self) -> Path:
        """Settings of the attempt's stack."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """The training's output, byte for byte."""
        return self.path / "train.log"

    @property
    def metrics(self) -> Path:
        """One JSON line a logged step."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """What happened, for scripts."""
        return self.path / "run-summary.json"

    @property
    def cancelled(self) -> bool:
        """Tell whether somebody has cancelled the run, from whichever process."""
        return (self.path / "cancelled").exists()

    @property
    def cancelled_now(self) -> bool:
        """Tell whether it was cancelled without saving: whoever drives it ends the pod at once."""
        try:
            return (self.path / "cancelled").read_text().startswith("now")
        except FileNotFoundError:
            return False

    def cancel(self, *, now: bool) -> None:
        """Leave word for whoever drives the run, in one step."""
        text = f"{'now' if now else 'saving'} {format_time(time.time())}\n"
        write_atomic(self.path / "cancelled", text, durable=True)

    def load(self) -> RunRecord:
        """Return the record; raises UserError when it is missing or damaged."""
        path = self.path / "run.json"
        try:
            return read_record(parse_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path}: the record of this run cannot be read: {error}",
                hint="\n".join(self._without_record()),
            ) from None

    def _without_record(self) -> Iterator[str]:
        """Yield what can be done about a pod whose stack nobody knows here any more: a line for each stack that has a key."""
        yield "Its pod, if it has one, may still be there. See what there is: invoke reap --all-stacks --dry-run"
        keys = sorted(self.path.parents[3].glob("ssh/*/id_ed25519")) if len(self.path.parents) > 3 else []
        for key in keys:
            stack, file = key.parent.name, quote(str(key))
            yield f"Take one of {stack} over: invoke adopt POD --stack {stack} --key {file}, or end it: invoke end POD --stack {stack}"
        if not keys:
            yield "'invoke adopt' takes one over anew by its stack's SSH key, 'invoke end' ends it"

    def save(self, record: RunRecord) -> None:
        """Replace the record, durably."""
        write_json(self.path / "run.json", as_json(record))

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Hold the right to drive this attempt; raises Busy while another living process holds it."""
        path = self.path / "controller.lock"
        handle = acquire_now(path)
        if handle is None:
            raise Busy(f"this run is driven by {_named_in(path) or 'another process'}")
        try:
            with contextlib.suppress(OSError):  # only a name for others to read: a full disk must not keep anybody from driving
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def leasing(self) -> Iterator[None]:
        """Hold the right to move the attempt's lease or to end it, waiting for who has it; a disk that takes no lock grants it."""
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):
                held.enter_context(hold_lock(self.path / "lease.lock"))
            yield

    @contextmanager
    def stage(self, record: RunRecord, name: str) -> Iterator[None]:
        """Add the time a stage takes to the record (also when it fails)."""
        began = time.monotonic()
        try:
            yield
        finally:
            record.stages[name] = round(record.stages.get(name, 0.0) + time.monotonic() - began, 3)
            # Only a duration: what has happened in here must not be hidden behind a full disk.
            with contextlib.suppress(OSError):
                self.save(record)


def _named_in(lock: Path) -> str:
    with contextlib.suppress(OSError):
        return lock.read_text(errors="replace").strip()[:100]
    return ""


def read_record(data: object) -> RunRecord:
    """Return the record that JSON holds, of this version or another one; raises ValueError for one that is damaged."""
    record = codec.read(RunRecord, data)
    known = {item.name for item in dataclasses.fields(RunRecord)}
    record.unknown = {key: value for key, value in data.items() if key not in known} if isinstance(data, Mapping) else {}
    return record


def as_json(record: RunRecord) -> dict[str, object]:
    """Return a record as ``run.json`` holds it."""
    fields = dataclasses.asdict(record)
    return {**fields.pop("unknown"), **fields}


def all_folders(runs: Path) -> list[RunFolder]:
    """Return the folders of all attempts, oldest first."""
    folders = [path for path in runs.glob("*/*/*") if path.name.isdigit() and path.is_dir()]
    return [RunFolder(path) for path in sorted(folders, key=_changed)]


def last_begun(runs: Path, stack: str | None = None) -> RunId | None:
    """Return the attempt here that was begun last, on a stack where one is named; None without any."""
    newest: RunRecord | None = None
    for folder in reversed(all_folders(runs)):
        if newest is not None and _changed(folder.path) < newest.created:
            break  # a record is changed after its run was begun: all further ones are older
        try:
            record = folder.load()
        except UserError:
            continue
        if stack in (None, record.environment) and (newest is None or record.created > newest.created):
            newest = record
    return None if newest is None else newest.id


def _changed(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return (folder / "run.json").stat().st_mtime
    return 0.0  # without a record: it is listed all the same, and whoever reads it says so


def is_driven(folder: RunFolder) -> bool:
    """Tell whether a living process drives the attempt."""
    try:
        with folder.driving():
            return False
    except Busy:
        return True


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, durably, so that a crash or a full disk leaves the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", durable=True)
