"""A controller in a process of its own, from the verdict on: the road of one result, then what `invoke recover` would do.

Its time is handed out: waiting moves a clock that the case reads, and no second of it passes here.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from tests.faults.results.contents import PART
from trainyard.clock import Clock, format_time
from trainyard.config import Places
from trainyard.errors import TrainyardError
from trainyard.remote.local import LocalTransport
from trainyard.remote.protocol import Transport
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import Address, connect
from trainyard.runs.context import CommandContext
from trainyard.runs.life import roads
from trainyard.runs.records.parts import RunBucket, RunPod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui
from trainyard.storage import commit as storage_commit
from trainyard.storage import datasend, podfetch, seal
from trainyard.storage.deliver import DeliveryPatience
from trainyard.storage.manifest import Keep
from trainyard.storage.podside import ScannedFiles

LEASE = 4 * 3600.0
USER = "ann"
WHY = "exited 3"
POD_LOG, LOG = b"step 1\n", b"step 1\nstep 2\n"
"""What the job has said, by the pod and by what the controller has heard."""


@dataclass(frozen=True)
class Order:
    """One command of a case: whose run it is, where its pod is, and where it says what it does."""

    root: Path
    memory: Path
    """What it remembers of stores; several checkouts share it."""
    pod: Path
    story: Path
    env: dict[str, str]
    pod_path: str
    bucket: str
    label: str
    token: str
    began: float
    """The moment of the case's beginning, epoch seconds."""
    kept: bool
    address: Address | None
    """Where its pod's SSH server is; None: the pod is a folder here."""
    volume: str | None = None
    """Where the bucket is mounted on the pod."""

    @property
    def store(self) -> str:
        """The kind of its store: the one that can be mounted signs no URLs."""
        return "runpod" if self.volume else "s3"

    @property
    def folder(self) -> RunFolder:
        """The run's record and logs."""
        return RunFolder(self.root / "run")

    @property
    def places(self) -> Places:
        """The checkout."""
        return Places(root=self.root, home=self.memory, outside=self.root / "outside", settings=self.root / "settings")


@dataclass(frozen=True)
class Pod:
    """A pod that is a folder."""

    id: str
    root: Path

    def path(self, *parts: str) -> str:
        """Return a path under its workspace."""
        return "/".join((str(self.root), *parts))

    def over(self) -> str | None:
        """Return the cloud's word that it is gone: never, its lease is not over."""
        return None


def command(order: Order, elapsed: Synchronized[float]) -> None:
    """Bring the run's result to safety, or go on where an earlier command was; exits as a verb does."""
    as_verb(order, elapsed, _command)


def as_verb(order: Order, elapsed: Synchronized[float], body: Callable[[Order, CommandContext, Clock], None]) -> None:
    """Do something in this process as a verb does it: its words go to the story, its exit code is that of its error."""
    os.environ.clear()
    os.environ.update(order.env)
    with order.story.open("a", buffering=1) as story:
        sys.stdout = sys.stderr = story
        hasten(elapsed)
        clock = Clock(lambda: order.began + elapsed.value, functools.partial(_pass, elapsed))
        try:
            body(order, CommandContext(order.places, order.env, Ui(stream=story)), clock)
        except TrainyardError as error:
            print(f"{error.message}\n{error.hint or ''}", file=story)
            sys.exit(error.exit_code)
        except Exception:  # whoever prints it later finds the story closed
            traceback.print_exc(file=story)
            sys.exit(70)


def hasten(elapsed: Synchronized[float]) -> None:
    """Make small parts of files, and let waiting of libraries take no time."""
    really = time.sleep

    def hasty(seconds: float) -> None:
        really(min(float(seconds), 0.01))

    def pause(seconds: float) -> None:
        _pass(elapsed, seconds)
        hasty(seconds)

    time.sleep = hasty  # type: ignore[assignment]
    # Their defaults were taken before: those pauses are of this clock, too.
    defaults: dict[str, object] = podfetch.fetch_to_pod.__kwdefaults__ or {}
    defaults["pause"] = pause
    vars(datasend)["DeliveryPatience"] = functools.partial(DeliveryPatience, pause=pause)
    storage_commit.commit = functools.partial(storage_commit.commit, part_size=PART)
    seal._syncfs = lambda folder: None


def _pass(elapsed: Synchronized[float], seconds: float) -> None:
    with elapsed.get_lock():
        elapsed.value += seconds


def _command(order: Order, context: CommandContext, clock: Clock) -> None:
    folder = order.folder
    record = folder.load() if (folder.path / "run.json").exists() else new_record(order)
    if record.result is None:
        keep = Keep(WHY, 3) if order.kept else None
        bring(order, context, record, clock, roads.ResultSelection(["model/**"], [], keep))
    if roads.settle(context, record, folder):
        folder.save(record)


def bring(
    order: Order, context: CommandContext, record: RunRecord, clock: Clock, what: roads.ResultSelection, known: ScannedFiles | None = None
) -> None:
    """Bring what the pod has to safety."""
    pod, transport = Pod("pod-1", order.pod), reach(order)
    road = roads.DeliveryRoad(context, record, order.folder, pod, transport, known, clock)  # type: ignore[arg-type]
    record.result = road.save(what)
    order.folder.save(record)
    transport.close()


def reach(order: Order) -> Transport:
    """Return the link to the run's pod."""
    return Reconnecting(lambda: _dial(order), name="pod-1")


def _dial(order: Order) -> Transport:
    if order.address is None:
        return LocalTransport(env={**order.env, "PATH": order.pod_path})
    return connect(order.address, timeout=5.0)


def new_record(order: Order) -> RunRecord:
    """Return the record of a run whose training has ended."""
    record = RunRecord(
        USER, order.label, 1, "local", "command", {}, "0", 1.0, order.began, token=order.token, phase="trained", starting=True
    )
    record.bucket = RunBucket(order.bucket, store=order.store)
    record.pod = RunPod(pod_id="pod-1", end=format_time(order.began + LEASE), volume_path=order.volume)
    order.folder.path.mkdir(parents=True, exist_ok=True)
    order.folder.log.write_bytes(LOG)
    return record
