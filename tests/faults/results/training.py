"""The level ``ahead``: files and checkpoints go into the bucket while a training writes, rewrites and removes them; then trouble."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import random
import shutil
import signal
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from tests.faults.results import judge
from tests.faults.results.cases import Case
from tests.faults.results.contents import PART
from tests.faults.results.controller import USER, Order, as_verb, reach
from tests.faults.results.stage import COMMANDS, HUNG, Operations, Result, Stage, play_scene
from tests.faults.results.world import World
from tests.storage.lying_proxy import Fault
from trainyard.clock import Clock
from trainyard.runs.context import CommandContext
from trainyard.storage import ahead
from trainyard.storage import commit as storage_commit
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import DeliveryPatience
from trainyard.storage.manifest import ResultKey
from trainyard.storage.stores import store_settings

FOLDERS = ahead.CheckpointRule("checkpoints/checkpoint-*", "complete.json", keep=1, every=0.0)
SINGLE = ahead.CheckpointRule("checkpoints/*.pt", None, keep=1, every=0.0)
AT_ONCE = dict.fromkeys(ahead.AFTER, 0.0)


class Trainee:
    """A training that writes: what it made whole is known by its hashes."""

    def __init__(self, output: Path, seed: int) -> None:
        self.output, self.chance = output, random.Random(f"training {seed}")
        self.versions: dict[str, list[dict[str, str]]] = {}
        self.others: dict[str, str] = {}
        """The sha256 of files that are no checkpoint's."""
        self.lost = False
        """Its pod is gone: nothing can be written any more."""

    def save(self, step: int) -> str:
        """Write a checkpoint as trainers do: files in place, then the mark; of one that is there the mark goes first."""
        name, folder = f"checkpoint-{step}", self.output / f"checkpoints/checkpoint-{step}"
        (folder / "complete.json").unlink(missing_ok=True)
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        # The same sizes each time: only the bytes tell a rewritten one.
        bodies = {"optimizer.bin": self.chance.randbytes(self._size()), "deep/state.json": b'{"step": %04d}' % self.chance.randrange(10**4)}
        for path, body in bodies.items():
            (folder / path).write_bytes(body)
        bodies["complete.json"] = json.dumps({path: len(body) for path, body in bodies.items()}).encode()
        self._whole(name, bodies)
        (folder / "complete.json").write_bytes(bodies["complete.json"])
        return name

    def save_single(self, step: int) -> str:
        """Write a checkpoint that is one file, and give it its name when it is whole."""
        name, body = f"{step}.pt", self.chance.randbytes(self._size())
        path = self.output / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(".new").write_bytes(body)
        self._whole(name, {name: body})
        os.replace(path.with_name(".new"), path)
        return name

    def write(self, name: str, body: bytes) -> None:
        """Write some file."""
        path = self.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        self.others[name] = hashlib.sha256(body).hexdigest()

    def tear(self, step: int) -> None:
        """Write over the files of a checkpoint and leave its mark: nobody can tell that from a whole one, but half of it from all of it."""
        folder = self.output / f"checkpoints/checkpoint-{step}"
        for path in ("optimizer.bin", "deep/state.json"):
            with (folder / path).open("r+b") as file:
                file.write(self.chance.randbytes(10))
        names = ("optimizer.bin", "deep/state.json", "complete.json")
        self._whole(folder.name, {path: (folder / path).read_bytes() for path in names})

    def remove(self, step: int) -> None:
        """Remove a checkpoint."""
        shutil.rmtree(self.output / f"checkpoints/checkpoint-{step}")

    def model(self, *numbers: int) -> None:
        """Write files of the result that are big enough to go ahead."""
        for number in numbers:
            size = (1 << 20) + number
            header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
            path = self.output / f"model/model-{number}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(len(header).to_bytes(8, "little") + header + self.chance.randbytes(size))

    def files(self) -> dict[str, str]:
        """Return the sha256 of what is the result now."""
        return {
            path.relative_to(self.output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (self.output / "model").rglob("*")
        }

    def _size(self) -> int:
        return PART + 77 if self.chance.randrange(4) == 0 else 30_000

    def _whole(self, name: str, bodies: dict[str, bytes]) -> None:
        self.versions.setdefault(name, []).append({path: hashlib.sha256(body).hexdigest() for path, body in bodies.items()})


class Scene:
    """One training, from its first checkpoint on."""

    def __init__(self, world: World, case: Case) -> None:
        self.stage = Stage(world, case)
        self.case, self.client, self.result, self.order = case, world.client, self.stage.result, self.stage.order
        self.single = case.content == "single file"
        self.trainee = Trainee(self.order.pod / "output", case.seed)
        self.base, self.prefix = (f"{folder}/{USER}/{self.stage.label}/1/" for folder in ("checkpoints", "models"))
        self.last = self.trainee.save_single(10) if self.single else self.trainee.save(10)
        self.trainee.model(1, 2)
        (self.order.pod / "job").mkdir()
        (self.order.pod / "job/log").write_bytes(b"step 1\n")

    def play(self) -> None:
        """The way ahead in trouble, then the training's end and its commit."""
        stage, trainee = self.stage, self.trainee
        operations = self._honest()
        what = stage.after(operations, share=stage.chance.random())
        stage.arm(operations, Fault("any", "call", after=what, then=self._meanwhile))
        with self._disk():
            self._look(self.run(False))
        stage.disarm()
        if trainee.lost:
            return
        self.last = trainee.save_single(30) if self.single else trainee.save(30)
        trainee.model(2, 4)
        for _ in range(COMMANDS):
            code = self.run(True)
            sealed = self._look(code)
            if code == 0:
                break
        wanted = judge.Wanted(self.order.token, "_SUCCESS", trainee.files(), frozenset())
        found = judge.look(self.client, stage.bucket, self.prefix, Path("/nowhere"), wanted)
        self.result.problems += found.problems
        if code or not found.committed:
            self.result.problems.append(f"the story has no end: exit code {code}, committed: {found.committed}")
        if sealed != [self.last]:
            self.result.problems.append(f"after {self.last} the bucket holds these checkpoints: {sealed}")
        if names := {key[len(self.base) :].split("/")[0] for key in judge.snapshot(self.client, stage.bucket, self.base)} - {self.last}:
            self.result.problems.append(f"something is left of older checkpoints: {sorted(names)}")
        if left := judge.open_uploads(self.client, stage.bucket, self.prefix):
            self.result.problems.append(f"uploads are left open: {left[:5]}")

    def run(self, over: bool) -> int:
        """Run one command: on the way ahead, or when the training is over."""
        return self.stage.run(command, self.single, over)

    def _meanwhile(self) -> None:
        """What the training, or the cloud, does while something is on its way."""
        trainee, kind = self.trainee, self.case.content
        if kind == "pod lost":
            trainee.lost = True
            os.rename(self.order.pod, self.order.pod.with_name("gone"))
        elif kind == "single file":
            trainee.save_single(self.stage.chance.choice((10, 20)))
        elif kind == "files change":
            trainee.model(1, 3)
            (trainee.output / "model/model-2.safetensors").unlink()
        elif kind == "torn":
            trainee.tear(10)
        else:
            trainee.save(10 if kind == "rewritten" else 20)
            if kind == "deleted":
                trainee.remove(10)

    def _look(self, code: int) -> list[str]:
        """Judge what is true after a command; returns the checkpoints that count."""
        if code not in (-signal.SIGKILL, HUNG):
            self.result.problems += judge.said(code, self.stage.told)
        found = judge.checkpoints(self.client, self.stage.bucket, self.base, self.order.token, self.trainee.versions)
        self.result.problems += [problem for problem in found.problems if problem not in self.result.problems]
        if "saved checkpoints/" in self.stage.told and not found.sealed:
            self.result.problems.append("a checkpoint was called safe, and none is in the bucket")
        return found.sealed

    def _disk(self) -> contextlib.AbstractContextManager[None]:
        """Fill the disk that the pod's own files lie on while the block lasts, where that is the trouble."""
        return self.stage.full_disk(self.order.pod / ".trainyard") if self.stage.trouble.full else contextlib.nullcontext()

    def _honest(self) -> Operations:
        """Return the operations of a way ahead that nothing troubles."""
        link = "here" if self.order.volume is None else "mounted"
        case = Case(self.case.level, "single file" if self.single else "another step", "none", 0.0, link, False, 1)
        kind = (f"{self.case.level}/{self.single}/{self.order.volume is None}", False)
        return self.stage.honest(kind, lambda: type(self)(self.stage.world, case), lambda other: other.run(False))


def play(world: World, case: Case) -> Result:
    """Play a case of this level."""
    return play_scene(Scene, world, case)


# ---- in the controller's process


def command(order: Order, elapsed: Synchronized[float], single: bool, over: bool) -> None:
    """Look twice and send what is final; commit the result where the training is over."""
    as_verb(order, elapsed, functools.partial(_command, single=single, over=over))


def _command(order: Order, context: CommandContext, clock: Clock, *, single: bool, over: bool) -> None:
    ahead.AFTER.update(AT_ONCE)
    settings, patience = store_of(order, context), DeliveryPatience(pause=clock.pause)
    where, output = ResultKey(USER, order.label, 1), str(order.pod / "output")
    training = ahead.Training(where, order.token, output, ["model/**"], [], SINGLE if single else FOLDERS)
    with reach(order) as transport:
        one = ahead.Ahead(settings, transport, training, order.volume, PART, DeliveryPatience(2, 4, pause=clock.pause))
        one.begin()
        for _ in range(2):
            newest = one.send_files()
            if newest and newest != one.saved:
                size = one.save_checkpoint(newest)
                print(f"saved {newest}, {size} bytes" if size is not None else f"{newest} was changed or removed meanwhile")
        if over:
            storage_commit.commit(
                settings,
                transport,
                where,
                output,
                ["model/**"],
                token=order.token,
                patience=patience,
                known=one.scanned(),
                volume=order.volume,
            )


def store_of(order: Order, context: CommandContext) -> StoreSettings:
    """Return the run's bucket as a controller reaches it."""
    settings = store_settings(context.env, order.store, order.bucket, context.places)
    assert settings is not None
    return settings
