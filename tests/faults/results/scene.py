"""Play one case: a training's output, one trouble at its moment, then the next commands; the judge looks after each of them."""

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.results import judge
from tests.faults.results.cases import Case
from tests.faults.results.contents import Content, make
from tests.faults.results.controller import USER, Order, command
from tests.faults.results.troubles import TROUBLES, fault_of
from tests.faults.results.world import World, new_token, now
from tests.storage.lying_proxy import Fault
from trainyard.runs.records.record import RunFolder

OWN_BUCKET = 4
"""One case in so many has a bucket of its own: the canary is tried in trouble, too."""
LONGEST = 240.0
HUNG = -1000
COMMANDS = 4
"""After the troubled one: the same command again, or what recover does, must have ended the story by then."""
SMALL = "size=64k"


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


class Scene:
    """One case in its own bucket, checkout and pod."""

    def __init__(self, world: World, case: Case) -> None:
        self.world, self.case, self.trouble = world, case, TROUBLES[case.trouble][0]
        self.chance = random.Random(case.seed)
        self.result = Result(case)
        label = world.label()
        self.prefix, self.decoy = f"models/{USER}/{label}/1/", f"models/somebody/{label}/1/"
        self.root = world.base / label
        self.root.mkdir()
        self.content: Content = make(case.content, self.root / "pod/output", random.Random(case.seed))
        for name, body in (("job/log", b"step 1\n"), ("run/config.json", b"{}\n")):
            (self.root / "pod" / name).parent.mkdir(parents=True)
            (self.root / "pod" / name).write_bytes(body)
        self.bucket = f"t-{new_token()[:12]}" if self.chance.randrange(OWN_BUCKET) == 0 else world.bucket
        self.elapsed = world.context.Value("d", 0.0)
        address = world.link.address if case.link == "ssh" else None
        root, pod, story = (self.root / name for name in ("w", "pod", "story"))
        self.order = Order(
            root, world.base / "memory", pod, story, world.env, world.pod_path, self.bucket, label, new_token(), now(), case.kept, address
        )
        self.home = root / "out" / USER / label
        self.moment = threading.Event()
        self.over = threading.Event()

    def play(self) -> Result:
        """Play the case and return what came of it."""
        began = time.monotonic()
        try:
            self._play()
        except Exception:  # a case that cannot be judged is a failed one, and the others go on
            self.result.problems.append(traceback.format_exc())
        finally:
            self.content.end_writing()
            self.over.set()
            self.world.proxy.reset()
            self.world.link.refuse(False)
            self.world.as_nobody(False)
        self.result.story = self.order.story.read_text(errors="replace") if self.order.story.exists() else ""
        self.result.seconds = time.monotonic() - began
        shutil.rmtree(self.root, ignore_errors=True)
        return self.result

    def _play(self) -> None:
        client, world = self.world.client, self.world
        world.ensure_bucket(self.bucket)
        for name in ("_SUCCESS", "_manifest.json", "model/a"):
            client.put_object(Bucket=self.bucket, Key=self.decoy + name, Body=b'{"token": "somebody else"}')
        decoy = judge.snapshot(client, self.bucket, self.decoy)
        self.order.root.mkdir()
        world.as_nobody(self.content.as_nobody)
        with self._disks():
            if self.trouble.push:
                world.proxy.faults.append(Fault("any", "fail", times=10**6, status=403, code="AccessDenied"))
                self._look(self._run())
                world.proxy.reset()
            self._arm()
            code = self._run()
            self._disarm()
            self._look(code)
        for _ in range(COMMANDS):
            if "bucket" in self.result.where and code == 0:
                break
            code = self._run()
            self._look(code)
        if "bucket" not in self.result.where or code:
            self.result.problems.append(f"the story has no end: exit code {code}, the result is {self.result.where or 'on the pod only'}")
        if left := judge.open_uploads(client, self.bucket, self.prefix):
            self.result.problems.append(f"uploads are left open: {left[:5]}")
        if judge.snapshot(client, self.bucket, self.decoy) != decoy:
            self.result.problems.append("somebody else's result was changed")

    def _run(self) -> int:
        """Run one command to its end; HUNG is the code of one that had to be killed."""
        process = self.world.context.Process(target=command, args=(self.order, self.elapsed))
        self.process = process
        with self.order.story.open("a") as story:
            print("--- a command", file=story)
        self.heard = self.order.story.stat().st_size
        process.start()
        process.join(LONGEST)
        self.content.end_writing()
        if process.exitcode is None:
            process.kill()
            process.join()
            self.result.problems.append(f"it hung: nothing came of it in {LONGEST:g} s")
            return HUNG
        return process.exitcode

    def _look(self, code: int) -> None:
        """Judge what is true after a command."""
        story = self.order.story.read_text(errors="replace")[self.heard :]
        if code not in (-signal.SIGKILL, HUNG):
            self.result.problems += judge.said(code, story)
        marker = "_KEPT" if self.case.kept else "_SUCCESS"
        wanted = judge.Wanted(self.order.token, marker, self.content.files, frozenset(self.content.left), self.content.growing)
        found = judge.look(self.world.client, self.bucket, self.prefix, self.home, wanted)
        self.result.problems += [problem for problem in found.problems if problem not in self.result.problems]
        places = (("bucket", found.committed), ("home", found.at_home))
        self.result.where = " and ".join(name for name, there in places if there)
        record = RunFolder(self.order.root / "run")
        claimed = record.load().result if (record.path / "run.json").exists() else None
        if claimed is not None:
            if not self.result.where:
                self.result.problems.append(f"exit code {code}: a result is claimed, and is neither in the bucket nor at home")
            if claimed.owed and not claimed.road_why:
                self.result.problems.append("the result came home, and nobody was told why")
            shutil.rmtree(self.order.pod, ignore_errors=True)  # with a result that is called safe, the pod is ended
        elif code == 0:
            self.result.problems.append("exit code 0 without a result")

    # ---- the trouble

    def _arm(self) -> None:
        trouble, proxy = self.trouble, self.world.proxy
        proxy.reset()
        began: list[float] = []

        def over() -> bool:
            if not began:
                began.append(self.elapsed.value)
            return trouble.seconds > 0 and self.elapsed.value - began[0] >= trouble.seconds

        operations = self._honest()
        if (fault := fault_of(trouble, self._after(operations, trouble.operation, trouble.signed), self.chance, over)) is not None:
            proxy.faults.append(fault)
        if trouble.vanish:
            asked = sum(name == "Head" for name, _ in operations)
            proxy.faults.append(Fault("Head", "call after", after=int((1 + self.case.moment) * asked / 2), then=self._vanish))
        if trouble.kills or trouble.cut is not None:
            act = "call after" if self.chance.random() < 0.5 else "call"
            proxy.faults.append(Fault("any", act, after=self._after(operations, "any"), then=self._strike))  # type: ignore[arg-type]
        self.armed = list(proxy.faults)

    def _disarm(self) -> None:
        self.result.met = any(fault.done for fault in self.armed) or not self.armed
        self.world.proxy.reset()
        self.world.link.refuse(False)

    def _after(self, operations: list[tuple[str, bool]], operation: str, signed: bool = False) -> int:
        count = sum(operation in (name, "any") and (by_url or not signed) for name, by_url in operations)
        return int(self.case.moment * count)

    def _honest(self) -> list[tuple[str, bool]]:
        """Return the operations of an honest command of this kind, played once."""
        if self.trouble.push:
            return [("Put", False)] * (12 + 2 * len(self.content.files))
        kind = (self.case.content, self.case.kept)
        if self.case.content == "thousands":
            return [("Head", False), ("Put", True)] * 10_000
        if kind not in self.world.honest:
            case = Case("commit", self.case.content, "none", 0.0, "here", self.case.kept, self.case.seed)
            self.world.honest[kind] = []
            other = Scene(self.world, case)
            other._count(kind)
        return self.world.honest[kind]

    def _count(self, kind: tuple[str, bool]) -> None:
        self.world.ensure_bucket(self.bucket)
        self.order.root.mkdir()
        self.content.end_writing()
        self.world.proxy.reset()
        self._run()
        self.world.honest[kind] = [
            (one.operation, "X-Amz-Signature" in one.query) for one in self.world.proxy.seen if not one.key.startswith("tmp/")
        ]
        self.content.end_writing()
        self.world.proxy.reset()
        shutil.rmtree(self.root, ignore_errors=True)

    def _strike(self) -> None:
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

    def _vanish(self) -> None:
        """Take away what was just asked for; what is lost after the last proof, behind the marker, nobody can notice then."""
        asked = [one.key for one in self.world.proxy.seen if one.operation == "Head"]
        if asked and asked[-1].startswith(self.prefix) and not asked[-1][len(self.prefix) :].startswith("_"):
            self.world.client.delete_object(Bucket=self.bucket, Key=asked[-1])

    @contextlib.contextmanager
    def _disks(self) -> Iterator[None]:
        """Fill the disk that the trouble names while the block lasts: a small filesystem of its own, mounted there."""
        if not self.trouble.full:
            yield
            return
        if os.getuid() != 0:
            self.result.notes.append("no full disk: only root may mount one")
            yield
            return
        place = self.order.root / "out" if self.trouble.full == "home" else self.root / "pod/.trainyard"
        place.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", SMALL, "tmpfs", place], check=True)
        try:
            _fill(place / "ballast")
            yield
        finally:
            subprocess.run(["umount", "-l", place], check=True)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb") as ballast:
        while True:
            ballast.write(bytes(4096))
            ballast.flush()


def play(world: World, case: Case) -> Result:
    """Play a case of the commit's level."""
    return Scene(world, case).play()
