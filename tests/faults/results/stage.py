"""What every level of the matrix has: a run's pod, commands in processes of their own, one trouble at its moment."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from tests.faults.results.cases import Case
from tests.faults.results.controller import Order
from tests.faults.results.troubles import TROUBLES, fault_of
from tests.faults.results.world import World, new_token, now
from tests.storage.lying_proxy import Fault
from trainyard.rehearsal.runpod.s3 import start_s3

SILENCE = 240.0
"""Seconds in which nothing is seen of a command (its clock, its words, what it reads and writes) before it counts as hanging: how long it
needs in all depends on what its case lets it wait for, and on the machine."""
LONGEST = 1800.0
"""Seconds in which a command must have ended, whatever it does."""
HUNG = -1000
COMMANDS = 4
"""After the troubled one: the same command again, or what recover does, must have ended the story by then."""
SMALL = "size=64k"
Operations = Sequence[tuple[str, bool]]


@dataclass
class Result:
    """What came of a case."""

    case: Case
    met: bool = False
    where: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    story: str = ""
    seconds: float = 0.0


class Staged(Protocol):
    """Whatever plays on a stage."""

    stage: Stage


S = TypeVar("S", bound=Staged)


class Stage:
    """One case's folder, run and trouble."""

    def __init__(self, world: World, case: Case, bucket: str | None = None) -> None:
        self.world, self.case, self.trouble = world, case, TROUBLES[case.trouble][0]
        self.chance, self.result = random.Random(case.seed), Result(case)
        self.label, self.bucket = world.label(), bucket or world.bucket
        self.root = world.base / self.label
        self.root.mkdir()
        world.ensure_bucket(self.bucket)
        self.elapsed = world.context.Value("d", 0.0)
        address = world.link.address if case.link != "here" else None
        root, pod, story = (self.root / name for name in ("w", "pod", "story"))
        self.order = Order(
            root, world.base / "memory", pod, story, world.env, world.pod_path, self.bucket, self.label, new_token(), now(), case.kept,
            address,
        )  # fmt: skip
        self.mount = ExitStack()
        if case.link == "mounted" and world.files is None:
            self.result.notes.append("this server's buckets are no folders: nothing is mounted")
        elif case.link == "mounted":
            self.order = replace(self.order, volume=str(self.root / "volume"), env=world.env | self._mounted())
        self.over = threading.Event()
        self.armed: list[Fault] = []
        self.heard = 0

    @property
    def told(self) -> str:
        """What the last command has said."""
        return self.order.story.read_text(errors="replace")[self.heard :]

    def run(self, target: Callable[..., None], *more: object) -> int:
        """Run one command to its end and return its exit code; HUNG is the one of a command that had to be killed."""
        self.process = self.world.context.Process(target=target, args=(self.order, self.elapsed, *more))
        with self.order.story.open("a") as story:
            print("--- a command", file=story)
        self.heard = self.order.story.stat().st_size
        self.process.start()
        if problem := hang_of(self.process, self._signs):
            self.process.kill()
            self.process.join()
            self.result.problems.append(problem)
        return HUNG if problem or self.process.exitcode is None else self.process.exitcode

    def _signs(self) -> object:
        """Return what changes while a command gets on."""
        with contextlib.suppress(OSError):  # thousands of files come home without a word or a request
            return self.elapsed.value, self.order.story.stat().st_size, Path(f"/proc/{self.process.pid}/io").read_text()
        return None

    def arm(self, operations: Operations, *more: Fault) -> None:
        """Let the trouble come at its moment of what an honest command asks for; ``more`` is due besides."""
        trouble, proxy = self.trouble, self.world.proxy
        proxy.reset()
        began: list[float] = []

        def over() -> bool:
            if not began:
                began.append(self.elapsed.value)
            return trouble.seconds > 0 and self.elapsed.value - began[0] >= trouble.seconds

        proxy.faults += more
        if (fault := fault_of(trouble, self.after(operations, trouble.operation, trouble.signed), self.chance, over)) is not None:
            proxy.faults.append(fault)
        if trouble.unmount and self.chance.random() < 0.7:
            # The mount was proven, and nothing is copied yet: what follows lands in an empty folder.
            proxy.faults.append(Fault("Delete", "call after", key="tmp/mounted-", then=self._strike))
        elif trouble.kills or trouble.cut is not None or trouble.unmount:
            act = "call after" if self.chance.random() < 0.5 else "call"
            # One in four comes with a manifest or a marker: there a moment matters most, and few are drawn.
            marked = self.chance.random() < 0.25
            what, key, after = ("Put", "/_", self.chance.randrange(2)) if marked else ("any", "", self.after(operations))
            proxy.faults.append(Fault(what, act, after=after, key=key, then=self._strike))  # type: ignore[arg-type]
        self.armed = list(proxy.faults)

    def honest(self, kind: tuple[str, bool], begin: Callable[[], S], run: Callable[[S], object]) -> Operations:
        """Return the operations of a command that nothing troubles: it is run once for each kind, in a scene of its own."""
        world = self.world
        if kind not in world.honest:
            world.honest[kind] = []
            other = begin()
            world.proxy.reset()
            run(other)
            world.honest[kind] = world.operations()
            other.stage.close(0.0)
            shutil.rmtree(other.stage.root, ignore_errors=True)
        return world.honest[kind]

    def after(self, operations: Operations, operation: str = "any", signed: bool = False, share: float | None = None) -> int:
        """Return how many requests of a kind are passed on before the moment (or another share of them)."""
        count = sum(operation in (name, "any") and (by_url or not signed) for name, by_url in operations)
        return int((self.case.moment if share is None else share) * count)

    def disarm(self) -> None:
        """End the trouble."""
        self.result.met = any(fault.done for fault in self.armed) or not self.armed
        if self.trouble.unmount:
            self.point(self.root / "volume", self.world.files / self.bucket)  # type: ignore[operator]
        self.world.proxy.reset()
        self.world.link.refuse(False)

    def close(self, began: float) -> Result:
        """Leave the world as it was; returns what came of the case."""
        self.over.set()
        self.mount.close()
        self.world.proxy.reset()
        self.world.link.refuse(False)
        self.result.story = self.order.story.read_text(errors="replace") if self.order.story.exists() else ""
        self.result.seconds = time.monotonic() - began
        return self.result

    @contextlib.contextmanager
    def full_disk(self, place: Path) -> Iterator[None]:
        """Keep a folder's disk full while the block lasts: a small filesystem of its own, mounted there."""
        if os.getuid() != 0:
            self.result.notes.append("no full disk: only root may mount one")
            yield
            return
        with small_disk(place, SMALL):
            fill(place / "ballast")
            yield

    def _mounted(self) -> dict[str, str]:
        """Mount the bucket on the pod; returns how a controller reaches it: by an S3 with RunPod's limits, before the lying proxy."""
        self.point(self.root / "volume", self.world.files / self.bucket)  # type: ignore[operator]
        server = start_s3(self.world.proxy.port, self.bucket)
        self.mount.callback(server.server_close)
        self.mount.callback(server.shutdown)
        keys = self.world.server
        return {
            "RUNPOD_S3_ACCESS_KEY": keys.access_key.reveal(), "RUNPOD_S3_SECRET_KEY": keys.secret_key.reveal(),
            "RUNPOD_S3_ENDPOINT": server.endpoint, "RUNPOD_S3_BUCKET": self.bucket,
        }  # fmt: skip

    def point(self, mount: Path, folder: Path) -> None:
        """Let a mount show a folder."""
        new = mount.with_name("mount")
        new.symlink_to(folder)
        new.replace(mount)

    def _strike(self) -> None:
        if self.trouble.unmount:
            (self.root / "nothing").mkdir(exist_ok=True)
            self.point(self.root / "volume", self.root / "nothing")
        for victim in self.trouble.kills:
            pids = [self.process.pid] if victim == "controller" else self.world.uploaders()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid or 0, signal.SIGKILL)
        if self.trouble.cut is not None:
            at = self.elapsed.value + self.trouble.cut
            self.world.link.refuse(self.trouble.cut > 0)
            self.world.link.cut()
            self.world.watch(lambda: self.elapsed.value >= at, lambda: self.world.link.refuse(False), self.over)


class Joinable(Protocol):
    """A process, as multiprocessing has it."""

    @property
    def exitcode(self) -> int | None:
        """None while it runs."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""


def hang_of(process: Joinable, signs: Callable[[], object], now: Callable[[], float] = time.monotonic) -> str:
    """Wait until a command has ended; return why it counts as hanging, '' when it does not."""
    began = changed = now()
    last = signs()
    while process.exitcode is None:
        process.join(1.0)
        if (seen := signs()) != last:
            last, changed = seen, now()
        if process.exitcode is None and now() - changed >= SILENCE:
            return f"it hung: nothing came of it in {SILENCE:g} s"
        if process.exitcode is None and now() - began >= LONGEST:
            return f"it has no end: it still went on after {LONGEST:g} s"
    return ""


class StagedScene(Staged, Protocol):
    """A case that plays on a stage."""

    def play(self) -> None:
        """Play to the end and judge."""


def play_scene(make: Callable[[World, Case], StagedScene], world: World, case: Case) -> Result:
    """Play a case from its stage's making to its end; nothing of its folder stays."""
    began = time.monotonic()
    try:
        scene = make(world, case)
    except Exception:
        return Result(case, problems=[traceback.format_exc()])
    try:
        scene.play()
    except Exception:  # a case that cannot be judged is a failed one, and the others go on
        scene.stage.result.problems.append(traceback.format_exc())
    result = scene.stage.close(began)
    shutil.rmtree(scene.stage.root, ignore_errors=True)
    return result


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """Let a folder be a small filesystem of its own while the block lasts; only root may do that."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with contextlib.suppress(OSError), path.open("wb") as ballast:
        while True:
            ballast.write(bytes(4096))
            ballast.flush()
