"""A new attempt goes on from what an earlier one left, of which something is damaged, gone or not the run's; then trouble.

Level ``resume``: from checkpoints that went ahead. ``kept``: from those of a result under ``_KEPT`` in the bucket. ``home``: from
those that came home. ``init``: from a finished adapter.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Sequence
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.faults.results import judge
from tests.faults.results.cases import Case
from tests.faults.results.contents import PART
from tests.faults.results.controller import USER, WHY, Order, Pod, as_verb, new_record, reach
from tests.faults.results.stage import COMMANDS, HUNG, Operations, Result, Stage, play_scene
from tests.faults.results.training import FOLDERS, Trainee, store_of
from tests.faults.results.world import World
from tests.storage.lying_proxy import Fault
from trainyard.clock import Clock
from trainyard.remote.local import LocalTransport
from trainyard.runs.context import CommandContext
from trainyard.runs.life import restore
from trainyard.runs.records.parts import StartedFrom
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.startedfrom import started_from
from trainyard.runs.verbs import resume
from trainyard.storage import adapters, ahead, checkpointcommit, direct
from trainyard.storage import commit as storage_commit
from trainyard.storage.canary import probed
from trainyard.storage.client import with_bucket
from trainyard.storage.manifest import Keep, ResultKey

STEPS = (10, 20, 30)
FILES = ("optimizer.bin", "deep/state.json", "complete.json")
ADAPTER = ("model/adapter_model.safetensors", "model/adapter_config.json", "result.json")
NEWEST, BEFORE, OLDEST = (f"checkpoint-{step}" for step in reversed(STEPS))


class Lies:
    """Where the newest one lies: the keys of its folder, manifest and marker, or its files at home."""

    def __init__(
        self, client: Any, bucket: str, folder: str, base: str = "", marker: str = "_CHECKPOINT", files: Sequence[str] = FILES
    ) -> None:
        self.client, self.bucket, self.folder = client, bucket, folder
        self.files = [name.removeprefix("model/") for name in files]
        self.manifest, self.marker = f"{base or folder}_manifest.json", f"{base or folder}{marker}"

    def read(self, key: str) -> bytes:
        """Return what lies there."""
        if key.startswith("/"):
            return Path(key).read_bytes()
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def put(self, key: str, body: bytes) -> None:
        """Let other bytes lie there."""
        Path(key).write_bytes(body) if key.startswith("/") else self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def remove(self, *keys: str) -> None:
        """Let nothing lie there."""
        for key in keys:
            Path(key).unlink() if key.startswith("/") else self.client.delete_object(Bucket=self.bucket, Key=key)


class Scene:
    """An attempt that has ended, its checkpoints in the bucket, and the one that goes on."""

    def __init__(self, world: World, case: Case) -> None:
        self.stage = Stage(world, case)
        self.case, self.client, self.result, self.order = case, world.client, self.stage.result, self.stage.order
        self.base = f"checkpoints/{USER}/{self.stage.label}/1/"
        claim = {"token": self.order.token, "user": USER, "machine": "here", "time": "2026-11-29T12:00:00Z", "attempt": "1"}
        self.client.put_object(Bucket=self.stage.bucket, Key=f"attempts/{USER}/{self.stage.label}/1", Body=json.dumps(claim).encode())
        self.trainee = Trainee(self.stage.root / "before/output", case.seed)
        self.good = [NEWEST] if case.level == "init" else [NEWEST, BEFORE, OLDEST]
        """Those that may be gone on from, the newest first."""
        self.home, kept = self.order.root / "out" / USER / self.stage.label, f"models/{USER}/{self.stage.label}/1/"
        self.order.root.mkdir()
        for step in STEPS if case.level == "resume" else STEPS[:-1] if case.level != "init" else ():
            self._save(self.trainee, step, self.order.token)
        if case.level != "resume":
            self._finish(self.trainee, self.order.token)
        place = partial(Lies, self.client, self.stage.bucket)
        self.lies = {
            "resume": lambda: place(f"{self.base}{NEWEST}/"),
            "kept": lambda: place(f"{kept}checkpoints/{NEWEST}/", kept, "_KEPT"),
            "home": lambda: place(f"{self.home}/checkpoints/{NEWEST}/", f"{self.home}/", "_KEPT"),
            "init": lambda: place(f"{kept}model/", kept, "_SUCCESS", ADAPTER[:2]),
        }[case.level]()
        self.target = self.order.pod / ("init" if case.level == "init" else "output")
        self.target.mkdir(parents=True)

    def play(self) -> None:
        """Damage, go on in trouble, go on again until it trains."""
        stage, operations = self.stage, self._honest()
        meanwhile, signed = self.case.content.endswith("meanwhile"), self.order.volume is None
        if not meanwhile:
            self._damage()
        due = [Fault("Get", "call", after=stage.chance.randrange(3), signed=signed, then=self._damage)] if meanwhile else []
        if "before" in self.case.content:
            self._strange(STEPS[1])
            self.good.remove(BEFORE)
        elif self.case.content == "another run's meanwhile":
            due = [Fault("any", "call", after=stage.after(operations, share=stage.chance.random()), then=self._damage)]
        if self.trouble_is_full:
            shutil.rmtree(self.target)
            with stage.full_disk(self.target):
                code = self._troubled(operations, due)
            self.target.mkdir(exist_ok=True)
        else:
            code = self._troubled(operations, due)
        for _ in range(COMMANDS):
            if code == 0:
                break
            code = stage.run(command, self.case.level == "init")
            self._look(code)
        fetched = code == 0 and meanwhile and self.case.level == "init"  # before that
        if (code == 0) != bool(self.good) and not fetched:
            self.result.problems.append(f"the story has no end: exit code {code}, with {self.good or 'nothing'} to go on from")

    @property
    def trouble_is_full(self) -> bool:
        """Whether the pod's disk is full meanwhile."""
        return bool(self.stage.trouble.full)

    def _troubled(self, operations: Operations, due: list[Fault]) -> int:
        self.stage.arm(operations, *due)
        code = self.stage.run(command, self.case.level == "init")
        self.stage.disarm()
        self._look(code)
        return code

    def _look(self, code: int) -> None:
        """Judge what is true after a command."""
        told = self.stage.told
        if code not in (-signal.SIGKILL, HUNG):
            self.result.problems += judge.said(code, told)
        whole = {
            f"checkpoints/{name}/{path}": [one[path] for one in versions]
            for name, versions in self.trainee.versions.items()
            for path in versions[0]
        }
        if self.case.level == "init":
            whole = {name.removeprefix("model/"): [digest] for name, digest in self.trainee.others.items()}
        here, wrong = judge.on_pod(self.target, whole)
        here.pop("ballast", None)
        if wrong := [path for path in wrong if path != "ballast"]:
            self.result.problems.append(f"exit code {code}: wrong bytes under a final name on the pod: {wrong[:5]}")
        if code:
            return
        if self.case.level == "init":
            if set(here) != set(whole):
                self.result.problems.append(f"it starts without its adapter: {sorted(set(here) ^ set(whole))}")
            return
        name = told.rpartition("trains from ")[2].strip().rpartition("/")[2]
        files = {path for path in whole if path.startswith(f"checkpoints/{name}/")}
        if not files or set(here) != files:
            self.result.problems.append(
                f"it trains from '{name}', and on the pod are {sorted(set(here) ^ files)[:5]} besides or not at all"
            )
        late = self.case.content.endswith("meanwhile") and name == NEWEST  # it was fetched before that
        if self.stage.trouble.act == "garble" and name in self.good:
            late = True  # each reading of the newer one may have been damaged; that it was not taken was told
        if name not in self.good[:1] and not late:
            self.result.problems.append(f"it trains from {name}, and the newest whole one is {self.good[:1]}")
        story = self.order.story.read_text(errors="replace")
        # One without a marker is none: nothing has to be said of it.
        if name != NEWEST and self.case.content != "no marker" and "removed" not in self.case.content and "not taken" not in story:
            self.result.problems.append(f"it trains from {name}, and nobody was told that {NEWEST} was not taken")

    def _damage(self) -> None:
        """Do to the newest one what the case says."""
        kind, lies = self.case.content, self.lies
        first, *others = lies.files
        if kind == "file missing":
            lies.remove(lies.folder + first)
        elif kind == "half removed":
            lies.remove(lies.folder + first, lies.manifest)
        elif kind in ("no marker", "removed meanwhile"):
            lies.remove(lies.marker, *(lies.folder + name for name in (first, *others)), lies.manifest)
        elif kind == "another manifest":
            lies.put(lies.manifest, lies.read(lies.manifest).replace(b'"size": ', b'"size": 1'))
        elif kind.startswith("another run's") and "before" not in kind:
            self._strange(STEPS[-1])
        elif kind != "whole":
            damaged = {"two damaged": [BEFORE], "all damaged": [BEFORE, OLDEST]}.get(kind, [])
            # The same length, and not a byte that fits: only a hash can tell.
            lies.put(lies.folder + first, bytes(len(lies.read(lies.folder + first))))
            for name in damaged:
                one = Lies(self.client, self.stage.bucket, f"{self.base}{name}/")
                one.put(f"{one.folder}optimizer.bin", bytes(len(one.read(f"{one.folder}optimizer.bin"))))
            self.good = [name for name in self.good if name not in (NEWEST, *damaged)]
            return
        if kind != "whole":
            self.good = self.good[1:]

    def _strange(self, step: int) -> None:
        """Let a checkpoint of the attempt be another run's: whole, and not ours."""
        foreign = Trainee(self.stage.root / "foreign/output", self.case.seed + 1)
        if self.case.level == "resume" or "before" in self.case.content:
            self._save(foreign, step, "f" * 32)
            return
        self.lies.remove(self.lies.marker, self.lies.manifest)
        self._finish(foreign, "f" * 32)

    def _finish(self, trainee: Trainee, token: str) -> None:
        """Let the attempt before end, past the trouble: with an adapter, or as no success whose newest checkpoint is kept."""
        where, output, transport = ResultKey(USER, self.stage.label, 1), str(trainee.output), self._here()
        if self.case.level == "init":
            for name in ADAPTER:
                trainee.write(name, json.dumps({"r": 8}).encode() if name.endswith("json") else trainee.chance.randbytes(2 * PART + 5))
            keep, outputs = None, ["model/**", "result.json"]
        else:
            trainee.save(STEPS[-1])
            trainee.model(1)
            keep, outputs = Keep(WHY, 3, FOLDERS.pattern, FOLDERS.mark), ["model/**"]
        if self.case.level == "home":
            direct.fetch(transport, where, output, outputs, [], self.home, token=token, keep=keep)
        else:
            settings = with_bucket(self.stage.world.server, self.stage.bucket)
            storage_commit.commit(settings, transport, where, output, outputs, token=token, keep=keep, part_size=PART)

    def _here(self) -> LocalTransport:
        return LocalTransport(env={**self.stage.world.env, "PATH": self.stage.world.pod_path})

    def _save(self, trainee: Trainee, step: int, token: str) -> None:
        """Let a checkpoint of the attempt before go into the bucket, past the trouble."""
        name = trainee.save(step)
        settings = probed(with_bucket(self.stage.world.server, self.stage.bucket))
        where, output, path = ResultKey(USER, self.stage.label, 1), str(trainee.output), f"checkpoints/{name}"
        transport = self._here()
        one = ahead.Ahead(settings, transport, ahead.Training(where, token, output, (), (), FOLDERS), part_size=PART)
        sealing = checkpointcommit.OneCheckpoint(where, token, path, name)
        seen = checkpointcommit.scan(transport, f"{output}/{path}", md5=one._md5, part_size=PART, nice=0)
        assert seen is not None
        one._deliver(one._pod(), checkpointcommit.targets(sealing, seen))
        checkpointcommit.seal(settings, sealing, seen)

    def _honest(self) -> Operations:
        """Return the operations of a start that nothing troubles."""
        case = Case(self.case.level, "whole", "none", 0.0, "here" if self.order.volume is None else "mounted", False, 1)
        kind = (f"{self.case.level}/{self.order.volume is None}", False)
        return self.stage.honest(
            kind, lambda: Scene(self.stage.world, case), lambda other: other.stage.run(command, self.case.level == "init")
        )


def play(world: World, case: Case) -> Result:
    """Play a case of this level."""
    return play_scene(Scene, world, case)


# ---- in the controller's process


def command(order: Order, elapsed: Synchronized[float], init: bool) -> None:
    """Choose the checkpoint or adapter, unless an earlier command has; bring it to the pod, and say what the training goes on from."""
    as_verb(order, elapsed, partial(_command, init=init))


def _command(order: Order, context: CommandContext, clock: Clock, *, init: bool) -> None:
    folder, pod = order.folder, Pod("pod-1", order.pod)
    if (folder.path / "run.json").exists():
        record = folder.load()
    else:
        record = new_record(order)
        if init:
            adapter = adapters.find_adapter(store_of(order, context), f"{USER}/{order.label}", USER)
            record.label = f"{order.label}-next"
            record.init_from = StartedFrom(
                run=str(adapter.key), path="model", manifest_sha256=adapter.manifest_sha256, prefix=adapter.key.prefix
            )
        else:
            _choose(order, context, record)
        folder.save(record)
    with reach(order) as transport:
        restore.restore(context, record, folder, cast(Any, pod), transport)
    for value in restore.job_env(record, cast(Any, pod)).values():
        print(f"trains from {value}")


def _choose(order: Order, context: CommandContext, record: RunRecord) -> None:
    chosen = resume._choose(context, _again(order, context), False)
    assert chosen is not None
    record.attempt, record.resumed_from = 2, started_from(chosen)


def _again(order: Order, context: CommandContext) -> Any:
    """Return what the attempt before was, as its record tells."""
    past = SimpleNamespace(record=new_record(order), key=ResultKey(USER, order.label, 1))
    history = SimpleNamespace(store=store_of(order, context), user=USER, label=order.label, newest=past, attempts=[past])
    history.of = {1: past}.get
    return SimpleNamespace(history=history, recipe=SimpleNamespace(variables=()), values={})
