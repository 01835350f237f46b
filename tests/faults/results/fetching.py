"""The level ``data``: files go into the bucket and from there to the pod before its job starts; then trouble."""

from __future__ import annotations

import functools
import hashlib
import shutil
import signal
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, cast

from tests.faults.results import judge
from tests.faults.results.cases import Case
from tests.faults.results.controller import Order, Pod, as_verb, new_record, reach
from tests.faults.results.stage import COMMANDS, HUNG, Operations, Result, Stage, play_scene
from tests.faults.results.training import store_of
from tests.faults.results.world import World
from tests.storage.lying_proxy import Fault
from trainyard.clock import Clock
from trainyard.recipes.summaries import DataFile, DataSummary
from trainyard.runs.context import CommandContext
from trainyard.runs.life import inputs
from trainyard.runs.planning import datastore
from trainyard.storage.canary import probed
from trainyard.storage.client import with_bucket
from trainyard.storage.dataset import LocalSource, lay_out

BIG = (8 << 20) + 3
"""A file as big as this is a chunk of its own."""
SENT_BEFORE = ("wrong object", "object gone", "wrong meanwhile")


class Scene:
    """A person's files, the bucket, and the pod that shall have them."""

    def __init__(self, world: World, case: Case) -> None:
        self.stage = Stage(world, case)
        self.case, self.client, self.result, self.order = case, world.client, self.stage.result, self.stage.order
        self.folder, self.bodies, chance = self.stage.root / "data", dict[str, bytes](), self.stage.chance
        if case.content != "a big file":
            self.bodies |= {f"rows/{n} ü'.jsonl": chance.randbytes(chance.randrange(300)) for n in range(60)} | {"empty": b""}
        if case.content in ("a big file", "mixed"):
            self.bodies["weights.bin"] = chance.randbytes(BIG)
        for path, body in self.bodies.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(body)
        self.digests = {path: hashlib.sha256(body).hexdigest() for path, body in self.bodies.items()}
        self.truth = {path: [digest] for path, digest in self.digests.items()}
        self.victim = chance.choice([path for path, body in self.bodies.items() if body])
        self.files = [(path, str(self.folder / path), digest, len(self.bodies[path])) for path, digest in self.digests.items()]
        self.input = self.order.pod / "input"
        self.input.mkdir(parents=True)
        self.order.root.mkdir()
        self.stored: str | None = None

    def play(self) -> None:
        """Send and fetch in trouble, then once more until all of it is there."""
        stage, operations, kind = self.stage, self._honest(), self.case.content
        if kind in SENT_BEFORE:
            self._send_before()
        due = []
        if kind == "wrong on the pod":
            half = self.bodies[self.victim][:-1] or b"x"
            (self.input / self.victim).parent.mkdir(parents=True, exist_ok=True)
            (self.input / self.victim).write_bytes(half)
            self.truth[self.victim].append(hashlib.sha256(half).hexdigest())
        elif kind == "edited meanwhile":
            due = [Fault("any", "call", after=stage.after(operations, share=stage.chance.random() / 2), then=self._edit)]
        elif kind == "wrong meanwhile":
            due = [Fault("Get", "call", after=stage.chance.randrange(2), signed=True, then=self._spoil)]
        elif kind in SENT_BEFORE:
            self._spoil()
        if stage.trouble.full:
            shutil.rmtree(self.input)
            with stage.full_disk(self.input):
                code = self._troubled(operations, due)
            self.input.mkdir(exist_ok=True)
        else:
            code = self._troubled(operations, due)
        (self.folder / self.victim).write_bytes(self.bodies[self.victim])
        for _ in range(COMMANDS):
            if code == 0:
                break
            code = stage.run(command, self.files, self.stored)
            self._look(code)
        if code:
            self.result.problems.append(f"the story has no end: exit code {code}")

    def _troubled(self, operations: Operations, due: list[Fault]) -> int:
        self.stage.arm(operations, *due)
        code = self.stage.run(command, self.files, self.stored)
        self.stage.disarm()
        self._look(code)
        return code

    def _look(self, code: int) -> None:
        """Judge what is true after a command."""
        if code not in (-signal.SIGKILL, HUNG):
            self.result.problems += judge.said(code, self.stage.told)
        here, wrong = judge.on_pod(self.input, self.truth)
        if wrong := [path for path in wrong if path != "ballast"]:
            self.result.problems.append(f"exit code {code}: wrong bytes under a final name on the pod: {wrong[:5]}")
        if code == 0 and here != self.digests:
            self.result.problems.append(
                f"the job was started without its data: {sorted(set(here.items()) ^ set(self.digests.items()))[:3]}"
            )

    def _edit(self) -> None:
        """Somebody writes to a file that is on its way: as many bytes, or one more."""
        more = b"+" if self.case.seed % 2 else b""
        (self.folder / self.victim).write_bytes(bytes(len(self.bodies[self.victim])) + more)

    def _spoil(self) -> None:
        """Of one object of the data the bucket has other bytes of the same length, or nothing."""
        chance, bucket = self.stage.chance, self.stage.bucket
        key, size = chance.choice(self.keys)
        if self.case.content == "object gone":
            self.client.delete_object(Bucket=bucket, Key=key)
        else:
            self.client.put_object(Bucket=bucket, Key=key, Body=bytes(size))

    def _send_before(self) -> None:
        """Bring the data into the bucket before the trouble."""
        store, sources = probed(with_bucket(self.stage.world.server, self.stage.bucket)), _sources(self.files)
        self.stored = datastore.bring_quietly(store, sources)
        dataset = lay_out(sources).dataset
        self.keys = [(chunk.key, chunk.size) for chunk in dataset.chunks] + [(f"data/{self.stored}", len(dataset.encode()))]

    def _honest(self) -> Operations:
        """Return the operations of a command that nothing troubles."""
        sent, big = self.case.content in SENT_BEFORE, self.case.content in ("a big file", "mixed")

        def begin() -> Scene:
            other = Scene(self.stage.world, Case("data", self.case.content if big else "small files", "none", 0.0, "here", False, 1))
            if sent:
                other._send_before()
            return other

        kind = f"data/{'sent' if sent else self.case.content if big else ''}"
        return self.stage.honest((kind, False), begin, lambda other: other.stage.run(command, other.files, other.stored))


def play(world: World, case: Case) -> Result:
    """Play a case of this level."""
    return play_scene(Scene, world, case)


# ---- in the controller's process


def command(order: Order, elapsed: Synchronized[float], files: list[tuple[str, str, str, int]], stored: str | None) -> None:
    """Send the data, unless an earlier command has; let the pod fetch them, and start."""
    body: Callable[[Order, CommandContext, Clock], None] = functools.partial(_command, files=files, stored=stored)
    as_verb(order, elapsed, body)


def _command(order: Order, context: CommandContext, clock: Clock, *, files: list[tuple[str, str, str, int]], stored: str | None) -> None:
    folder, pod = order.folder, Pod("pod-1", order.pod)
    if (folder.path / "run.json").exists():
        record = folder.load()
    else:
        record = new_record(order)
        digest = stored or datastore.bring_quietly(probed(store_of(order, context)), _sources(files))
        named = tuple(DataFile(src, path, sha256, size, 0) for path, src, sha256, size in files)
        record.data = DataSummary(kind="folder", files=named, stored=digest)
        folder.save(record)
    with reach(order) as transport:
        inputs.bring(context, record, folder, cast(Any, pod), transport)
    print("starts")


def _sources(files: list[tuple[str, str, str, int]]) -> list[LocalSource]:
    return [LocalSource(path, Path(src), size, sha256) for path, src, sha256, size in files]
