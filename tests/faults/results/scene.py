"""Play one case: a training's output, one trouble at its moment, then the next commands; the judge looks after each of them."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from botocore.exceptions import ClientError

from tests.faults.results import judge
from tests.faults.results.cases import Case
from tests.faults.results.contents import Content, make
from tests.faults.results.controller import LOG, POD_LOG, USER, command
from tests.faults.results.stage import COMMANDS, HUNG, Operations, Result, Stage
from tests.faults.results.world import World, new_token
from tests.storage.lying_proxy import Fault
from trainyard.runs.records.record import RunFolder

OWN_BUCKET = 4
"""One case in so many has a bucket of its own: the canary is tried in trouble, too."""


FOREIGN = {"_SUCCESS": b'{"token": "somebody else", "manifest_sha256": "0"}', "_manifest.json": b"{}"}


class Scene:
    """One case in its own bucket, checkout and pod."""

    def __init__(self, world: World, case: Case) -> None:
        own = random.Random(f"bucket {case.seed}").randrange(OWN_BUCKET) == 0
        self.stage = Stage(world, case, f"t-{new_token()[:12]}" if own else None)
        self.world, self.case, self.trouble, self.result = world, case, self.stage.trouble, self.stage.result
        label, self.root, self.order, self.bucket = self.stage.label, self.stage.root, self.stage.order, self.stage.bucket
        self.prefix, self.decoy = f"models/{USER}/{label}/1/", f"models/somebody/{label}/1/"
        self.content: Content = make(case.content, self.root / "pod/output", random.Random(case.seed))
        for name, body in (("job/log", POD_LOG), ("run/config.json", b"{}\n")):
            (self.root / "pod" / name).parent.mkdir(parents=True)
            (self.root / "pod" / name).write_bytes(body)
        self.home = self.order.root / "out" / USER / label
        self.intruded = False

    def play(self) -> Result:
        """Play the case and return what came of it."""
        began = time.monotonic()
        try:
            self._play()
        except Exception:  # a case that cannot be judged is a failed one, and the others go on
            self.result.problems.append(traceback.format_exc())
        finally:
            self.content.end_writing()
            self.world.as_nobody(False)
            self.stage.close(began)
        shutil.rmtree(self.root, ignore_errors=True)
        return self.result

    def _play(self) -> None:
        client, world = self.world.client, self.world
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
            operations = self._honest()
            self.stage.arm(operations, *self._vanishing(operations), *self._foreign(operations))
            code = self._run()
            self.stage.disarm()
            self._look(code)
        for _ in range(COMMANDS):
            if self._goal() in self.result.where and code == 0:
                break
            code = self._run()
            self._look(code)
        if self._goal() not in self.result.where or code:
            self.result.problems.append(f"the story has no end: exit code {code}, the result is {self.result.where or 'on the pod only'}")
        self._look_at_log()
        if left := judge.open_uploads(client, self.bucket, self.prefix):
            self.result.problems.append(f"uploads are left open: {left[:5]}")
        if judge.snapshot(client, self.bucket, self.decoy) != decoy:
            self.result.problems.append("somebody else's result was changed")

    def _run(self) -> int:
        """Run one command to its end."""
        code = self.stage.run(command)
        self.content.end_writing()
        return code

    def _look(self, code: int) -> None:
        """Judge what is true after a command."""
        if code not in (-signal.SIGKILL, HUNG):
            self.result.problems += judge.said(code, self.stage.told)
        marker = "_KEPT" if self.case.kept else "_SUCCESS"
        wanted = judge.Wanted(self.order.token, marker, self.content.files, frozenset(self.content.left), self.content.growing, FOREIGN)
        # Where another run's result stands, nothing of the bucket is this run's: what it has is at home.
        prefix = self.prefix if self._goal() == "bucket" else f"{self.prefix}not-ours/"
        found = judge.look(self.world.client, self.bucket, prefix, self.home, wanted)
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

    def _look_at_log(self) -> None:
        """The log is with the result: the pod's, or what of it the controller had heard when it was pushed from home."""
        log = judge.read(self.world.client, self.bucket, f"logs/{USER}/{self.stage.label}/1/train.log")
        if "bucket" in self.result.where and log not in (POD_LOG, LOG):
            self.result.problems.append(f"the log in the bucket is not the job's: {log[:40]!r}")

    # ---- the trouble

    def _vanishing(self, operations: Operations) -> Iterator[Fault]:
        if self.trouble.vanish and self.case.content != "thousands":
            asked = sum(name == "Head" for name, _ in operations)
            yield Fault("Head", "call after", after=int((1 + self.case.moment) * asked / 2), then=self._vanish)

    def _foreign(self, operations: Operations) -> Iterator[Fault]:
        if self.trouble.forge == "success":
            yield Fault("any", "call", after=self.stage.after(operations), then=self._intrude)

    def _intrude(self) -> None:
        """Let another run seal its result under this one's key, by the same rule: once."""
        for name, body in FOREIGN.items():
            with contextlib.suppress(ClientError):
                self.world.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=body, IfNoneMatch="*")
                self.intruded |= name == "_SUCCESS"

    def _goal(self) -> str:
        """Return where the result must be in the end; another run's that stands in its place must go on standing there."""
        if not self.intruded:
            return "bucket"
        if judge.read(self.world.client, self.bucket, f"{self.prefix}_SUCCESS") != FOREIGN["_SUCCESS"]:
            self.result.problems.append("another run's _SUCCESS was written over or removed")
        # What was kept has a marker of its own: where that was there first, it is this run's, and its manifest with it.
        kept = judge.read(self.world.client, self.bucket, f"{self.prefix}_KEPT") if self.case.kept else b""
        return "bucket" if self.order.token.encode() in kept else "home"

    def _honest(self) -> Operations:
        """Return the operations of an honest command of this kind."""
        if self.trouble.push:
            return [("Put", False)] * (12 + 2 * len(self.content.files))
        kind = (self.case.content, self.case.kept)
        if self.case.content == "thousands":
            return [("Head", False), ("Put", True)] * 10_000

        def begin() -> Scene:
            other = Scene(self.world, Case("commit", self.case.content, "none", 0.0, "here", self.case.kept, self.case.seed))
            other.order.root.mkdir()
            other.content.end_writing()
            return other

        return self.stage.honest(kind, begin, Scene._run)

    def _vanish(self) -> None:
        """Take away what was just asked for; what is lost after the last proof, behind the marker, nobody can notice then.

        An empty object has no bytes that are read back, and of thousands only some are: their HEAD is their last proof.
        """
        asked = [one.key for one in self.world.proxy.seen if one.operation == "Head"]
        if asked and asked[-1].startswith(self.prefix) and not asked[-1][len(self.prefix) :].startswith("_"):
            client = self.world.client
            with contextlib.suppress(ClientError):  # that one is not there yet
                if client.head_object(Bucket=self.bucket, Key=asked[-1])["ContentLength"]:
                    client.delete_object(Bucket=self.bucket, Key=asked[-1])

    def _disks(self) -> contextlib.AbstractContextManager[None]:
        """Fill the disk that the trouble names while the block lasts."""
        if not self.trouble.full:
            return contextlib.nullcontext()
        places = {"home": self.order.root / "out", "pod": self.root / "pod/.trainyard"}
        volume = Path(self.order.volume, "models", USER) if self.order.volume else places["pod"]
        return self.stage.full_disk((places | {"pod": volume})[self.trouble.full])


def play(world: World, case: Case) -> Result:
    """Play a case of the commit's level."""
    return Scene(world, case).play()
