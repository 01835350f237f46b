"""The level ``resume``: a new attempt goes on from a checkpoint of which something is damaged, gone or not the run's; then trouble."""

from __future__ import annotations

import json
import shutil
import signal
from multiprocessing.sharedctypes import Synchronized
from types import SimpleNamespace
from typing import Any, cast

from tests.faults.results import judge
from tests.faults.results.cases import Case
from tests.faults.results.contents import PART
from tests.faults.results.controller import USER, Order, Pod, as_verb, new_record, reach
from tests.faults.results.stage import COMMANDS, HUNG, Operations, Result, Stage, play_scene
from tests.faults.results.training import FOLDERS, Trainee, store_of
from tests.faults.results.world import World
from tests.storage.lying_proxy import Fault
from trainyard.clock import Clock
from trainyard.remote.local import LocalTransport
from trainyard.runs.context import CommandContext
from trainyard.runs.life import restore
from trainyard.runs.records.startedfrom import started_from
from trainyard.runs.verbs import resume
from trainyard.storage import ahead, checkpointcommit
from trainyard.storage.client import with_bucket
from trainyard.storage.manifest import ResultKey

STEPS = (10, 20, 30)
NEWEST, BEFORE, OLDEST = (f"checkpoint-{step}" for step in reversed(STEPS))


class Scene:
    """An attempt that has ended, its checkpoints in the bucket, and the one that goes on."""

    def __init__(self, world: World, case: Case) -> None:
        self.stage = Stage(world, case)
        self.case, self.client, self.result, self.order = case, world.client, self.stage.result, self.stage.order
        self.base = f"checkpoints/{USER}/{self.stage.label}/1/"
        claim = {"token": self.order.token, "user": USER, "machine": "here", "time": "2026-11-29T12:00:00Z", "attempt": "1"}
        self.client.put_object(Bucket=self.stage.bucket, Key=f"attempts/{USER}/{self.stage.label}/1", Body=json.dumps(claim).encode())
        self.trainee = Trainee(self.stage.root / "before/output", case.seed)
        for step in STEPS:
            self._save(self.trainee, step, self.order.token)
        self.good = [NEWEST, BEFORE, OLDEST]
        """Those that may be gone on from, the newest first."""
        (self.order.pod / "output").mkdir(parents=True)
        self.order.root.mkdir()

    def play(self) -> None:
        """Damage, go on in trouble, go on again until it trains."""
        stage, operations = self.stage, self._honest()
        meanwhile = self.case.content.endswith("meanwhile")
        if not meanwhile:
            self._damage()
        due = [Fault("Get", "call", after=stage.chance.randrange(3), signed=True, then=self._damage)] if meanwhile else []
        if "before" in self.case.content:
            self._strange(STEPS[1])
            self.good.remove(BEFORE)
        elif self.case.content == "another run's meanwhile":
            due = [Fault("any", "call", after=stage.after(operations, share=stage.chance.random()), then=self._damage)]
        if self.trouble_is_full:
            shutil.rmtree(self.order.pod / "output")
            with stage.full_disk(self.order.pod / "output"):
                code = self._troubled(operations, due)
            (self.order.pod / "output").mkdir(exist_ok=True)
        else:
            code = self._troubled(operations, due)
        for _ in range(COMMANDS):
            if code == 0:
                break
            code = stage.run(command)
            self._look(code)
        if (code == 0) != bool(self.good):
            self.result.problems.append(f"the story has no end: exit code {code}, with {self.good or 'nothing'} to go on from")

    @property
    def trouble_is_full(self) -> bool:
        """Whether the pod's disk is full meanwhile."""
        return bool(self.stage.trouble.full)

    def _troubled(self, operations: Operations, due: list[Fault]) -> int:
        self.stage.arm(operations, *due)
        code = self.stage.run(command)
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
        here, wrong = judge.on_pod(self.order.pod / "output", whole)
        here.pop("ballast", None)
        if wrong := [path for path in wrong if path != "ballast"]:
            self.result.problems.append(f"exit code {code}: wrong bytes under a final name on the pod: {wrong[:5]}")
        if code:
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
        """Do to the newest checkpoint what the case says."""
        client, bucket, kind, prefix = self.client, self.stage.bucket, self.case.content, f"{self.base}{NEWEST}/"
        optimizer = f"{prefix}optimizer.bin"
        size = client.head_object(Bucket=bucket, Key=optimizer)["ContentLength"]
        if kind == "file missing":
            client.delete_object(Bucket=bucket, Key=optimizer)
        elif kind == "half removed":
            for name in ("optimizer.bin", "_manifest.json"):
                client.delete_object(Bucket=bucket, Key=prefix + name)
        elif kind in ("no marker", "removed meanwhile"):
            for name in ("_CHECKPOINT", "optimizer.bin", "deep/state.json", "complete.json", "_manifest.json"):
                client.delete_object(Bucket=bucket, Key=prefix + name)
        elif kind == "another manifest":
            body = client.get_object(Bucket=bucket, Key=f"{self.base}{BEFORE}/_manifest.json")["Body"].read()
            client.put_object(Bucket=bucket, Key=f"{prefix}_manifest.json", Body=body)
        elif kind.startswith("another run's") and "before" not in kind:
            self._strange(STEPS[-1])
        elif kind != "whole":
            names = {"two damaged": [NEWEST, BEFORE], "all damaged": [NEWEST, BEFORE, OLDEST]}.get(kind, [NEWEST])
            for name in names:
                # The same length, and not a byte that fits: only a hash can tell.
                client.put_object(Bucket=bucket, Key=f"{self.base}{name}/optimizer.bin", Body=bytes(size))
            self.good = [name for name in self.good if name not in names]
            return
        if kind != "whole":
            self.good = [BEFORE, OLDEST]

    def _strange(self, step: int) -> None:
        """Let a checkpoint of the attempt be another run's: whole, and not ours."""
        self._save(Trainee(self.stage.root / "foreign/output", self.case.seed + 1), step, "f" * 32)

    def _save(self, trainee: Trainee, step: int, token: str) -> None:
        """Let a checkpoint of the attempt before go into the bucket, past the trouble."""
        name = trainee.save(step)
        settings = with_bucket(self.stage.world.server, self.stage.bucket)
        where, output, path = ResultKey(USER, self.stage.label, 1), str(trainee.output), f"checkpoints/{name}"
        transport = LocalTransport(env={**self.stage.world.env, "PATH": self.stage.world.pod_path})
        one = ahead.Ahead(settings, transport, ahead.Training(where, token, output, (), (), FOLDERS), part_size=PART)
        sealing = checkpointcommit.OneCheckpoint(where, token, path, name)
        seen = checkpointcommit.scan(transport, f"{output}/{path}", md5=False, part_size=PART, nice=0)
        assert seen is not None
        one._deliver(one._pod(), checkpointcommit.targets(sealing, seen))
        checkpointcommit.seal(settings, sealing, seen)

    def _honest(self) -> Operations:
        """Return the operations of a start that nothing troubles, played once."""
        world, kind = self.stage.world, ("resume", False)
        if kind not in world.honest:
            world.honest[kind] = []
            other = Scene(world, Case("resume", "whole", "none", 0.0, "here", False, 1))
            world.proxy.reset()
            other.stage.run(command)
            world.honest[kind] = [(one.operation, "X-Amz-Signature" in one.query) for one in world.proxy.seen]
            shutil.rmtree(other.stage.root, ignore_errors=True)
        return world.honest[kind]


def play(world: World, case: Case) -> Result:
    """Play a case of this level."""
    return play_scene(Scene, world, case)


# ---- in the controller's process


def command(order: Order, elapsed: Synchronized[float]) -> None:
    """Choose the checkpoint, unless an earlier command has; bring it to the pod, and say what the training goes on from."""
    as_verb(order, elapsed, _command)


def _command(order: Order, context: CommandContext, clock: Clock) -> None:
    folder, pod = order.folder, Pod("pod-1", order.pod)
    if (folder.path / "run.json").exists():
        record = folder.load()
    else:
        record = new_record(order)
        chosen = resume._choose(context, _again(order, context), False)
        assert chosen is not None
        record.attempt, record.resumed_from = 2, started_from(chosen)
        folder.save(record)
    with reach(order) as transport:
        restore.restore(context, record, folder, cast(Any, pod), transport)
    print(f"trains from {restore.job_env(record, cast(Any, pod))['TRAINYARD_RESUME']}")


def _again(order: Order, context: CommandContext) -> Any:
    """Return what the attempt before was, as its record tells."""
    past = SimpleNamespace(record=new_record(order), key=ResultKey(USER, order.label, 1))
    history = SimpleNamespace(store=store_of(order, context), user=USER, label=order.label, newest=past, attempts=[past])
    history.of = {1: past}.get
    return SimpleNamespace(history=history, recipe=SimpleNamespace(variables=()), values={})
