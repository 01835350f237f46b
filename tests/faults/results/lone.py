"""The level ``pod``: nobody comes back, the pod commits by its plan, in trouble; it is killed, and told again by its watchdog.

When it says that it has committed, it ends itself: what it had is gone from then on. Somebody comes back later and seals,
in trouble too. Whoever has rights to the bucket and forges what a pod leaves there must not be believed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import json
import shutil
import signal
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.faults.results import judge
from tests.faults.results.cases import Case
from tests.faults.results.contents import PART
from tests.faults.results.controller import LEASE, USER, WHY, Order, as_verb, bring, new_record
from tests.faults.results.scene import Scene
from tests.faults.results.stage import COMMANDS, HUNG, Operations, Result
from tests.faults.results.training import store_of
from tests.faults.results.world import World
from tests.storage.lying_proxy import Fault
from trainyard.clock import Clock
from trainyard.pod import alone as pod_alone
from trainyard.pod import tarball
from trainyard.runs.context import CommandContext
from trainyard.runs.life import alone, finish, roads
from trainyard.storage import podcommit, podplan
from trainyard.storage.commit import default_logs
from trainyard.storage.deliver import DeliveryPatience
from trainyard.storage.manifest import Keep, ResultKey

TRIES = 4
"""So often the watchdog lets it try while the trouble lasts, and once more after it."""
FORGED = "0" * 64


class Lonely(Scene):
    """One pod with a plan."""

    def __init__(self, world: World, case: Case) -> None:
        super().__init__(world, case)
        self.said = self.root / "said"
        self.at_seal = self.stage.chance.random() < 0.4 and not self.trouble.forge

    def _play(self) -> None:
        stage = self.stage
        self.order.root.mkdir()
        if code := stage.run(leave, str(self.said)):
            raise AssertionError(f"no plan: {code}: {stage.told}")
        operations = self._count_both()
        with self._disks():
            if not self.at_seal:
                stage.arm(operations[0], *self._forging(operations[0]), *self._vanishing(list(operations[0])))
            committed = self._alone(TRIES)
            if not self.at_seal:
                stage.disarm()
        committed = committed or (not self.trouble.forge and self._alone(1))
        if committed:
            shutil.rmtree(self.order.pod)  # it has ended itself
        else:
            self.result.notes.append("the pod waits")
        self._judge(-signal.SIGKILL)
        if self.trouble.forge:
            self._judge(stage.run(back))
            self._unforge()
        if self.at_seal:
            stage.arm(operations[1])
            self._judge(stage.run(back))
            stage.disarm()
        for _ in range(COMMANDS):
            code = stage.run(back)
            self._judge(code)
            if "bucket" in self.result.where and code == 0:
                break
        else:
            self.result.problems.append(f"the story has no end: exit code {code}, the pod had committed: {committed}")
        self._look_at_log()
        if left := judge.open_uploads(self.world.client, self.bucket, self.prefix):
            self.result.problems.append(f"uploads are left open: {left[:5]}")

    def _alone(self, tries: int) -> bool:
        """Let the pod try some times; returns whether it has said that it has committed."""
        return any(self.stage.run(commit, str(self.said)) == 0 for _ in range(tries))

    def _judge(self, code: int) -> None:
        if code in (-signal.SIGKILL, HUNG) or (self.order.folder.path / "run.json").exists():
            self._look(code)
            return
        self.result.problems += judge.said(code, self.stage.told)
        self._look(-signal.SIGKILL)
        if code == 0:
            self.result.problems.append("exit code 0 without a result")

    def _count_both(self) -> tuple[Operations, Operations]:
        """Return the operations of a pod that nothing troubles, and of its seal, played once."""
        kinds = [(f"pod/{self.case.content}/{part}", self.case.kept) for part in ("alone", "seal")]
        honest, proxy = self.world.honest, self.world.proxy
        if kinds[0] not in honest:
            honest[kinds[0]] = honest[kinds[1]] = []
            other = Lonely(self.world, Case("pod", self.case.content, "none", 0.0, "here", self.case.kept, self.case.seed))
            other.order.root.mkdir()
            other.stage.run(leave, str(other.said))
            parts: tuple[tuple[Callable[..., None], tuple[str, ...]], ...] = ((commit, (str(other.said),)), (back, ()))
            for kind, (target, more) in zip(kinds, parts, strict=True):
                proxy.reset()
                other.stage.run(target, *more)
                honest[kind] = self.world.operations()
            shutil.rmtree(other.root, ignore_errors=True)
        return honest[kinds[0]], honest[kinds[1]]

    # ---- what somebody forges

    def _forging(self, operations: Operations) -> list[Fault]:
        if not self.trouble.forge:
            return []
        return [Fault("any", "call", after=self.stage.after(operations), then=self._forge)]

    def _forge(self) -> None:
        """Write what a pod leaves, with a secret of one's own; the token is known to every training."""
        body = b"not the result of anything" * 20
        index = json.dumps({"version": 1, "files": [], "left_out": []}).encode()
        tar = body + index
        said: dict[str, Any] = {
            "version": 1, "attempt": f"{USER}/{self.stage.label}/1", "token": self.order.token, "exit_code": 0, "why": None,
            "checkpoints": [], "files": 0, "bytes": 0, "tar": len(tar), "time": "2026-11-29T12:00:00Z", "secret": FORGED,
            "index": {"offset": len(body), "size": len(index), "sha256": hashlib.sha256(index).hexdigest()},
        }  # fmt: skip
        text = json.dumps(said, sort_keys=True).encode()
        said["mac"] = hmac.new(FORGED.encode(), text, "sha256").hexdigest()
        bodies = {"_POD_COMMITTED": json.dumps(said).encode(), "_pod.tar": tar}
        wanted = {"marker": ("_POD_COMMITTED",), "tar": ("_pod.tar",)}.get(self.trouble.forge, tuple(bodies))
        for name in wanted:
            # Over the pod's own tar it would only destroy: that nobody survives, and no marker fits it.
            with contextlib.suppress(ClientError):
                self.world.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=bodies[name], IfNoneMatch="*")

    def _unforge(self) -> None:
        """A person looks at it and removes it, as the message says; what the pod has written stays."""
        key = f"{self.prefix}_POD_COMMITTED"
        if key in judge.snapshot(self.world.client, self.bucket, key):
            body = self.world.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            if FORGED.encode() in body:
                self.world.client.delete_object(Bucket=self.bucket, Key=key)


def play(world: World, case: Case) -> Result:
    """Play a case of this level."""
    return Lonely(world, case).play()


# ---- in processes of their own


def leave(order: Order, elapsed: Synchronized[float], said: str) -> None:
    """A controller leaves a plan, and is gone."""
    as_verb(order, elapsed, functools.partial(_leave, said=said))


def _leave(order: Order, context: CommandContext, clock: Clock, *, said: str) -> None:
    settings, where, output = store_of(order, context), ResultKey(USER, order.label, 1), str(order.pod / "output")
    secret = podplan.secret_of(settings, where, order.token)
    what = podplan.PodOrder(where, order.token, secret, output, ["model/**"], [], None, None, [0], [75], default_logs(output), 300.0)
    plan, _ = podplan.open_plan(settings, what, order.began + LEASE, 1)
    ending = {"exit_code": 3 if order.kept else 0, "reason": ""}
    Path(said).write_text(json.dumps({"plan": {**plan, "part_size": PART}, "secret": secret, "ending": ending}))


def commit(order: Order, elapsed: Synchronized[float], said: str) -> None:
    """The watchdog's fork commits; what it says of an upload that only waits for its proof is told to the next one."""
    as_verb(order, elapsed, functools.partial(_commit, said=said))


def _commit(order: Order, context: CommandContext, clock: Clock, *, said: str) -> None:
    memory: dict[str, Any] = json.loads(Path(said).read_text())

    def say(**event: Any) -> None:
        if event["event"] == "pending":
            memory["pending"] = event["state"]
            Path(said).write_text(json.dumps(memory))
        elif event["event"] != "progress":
            print(event)

    tarball.SMALLEST_PART = PART
    if pod_alone.commit_alone({**memory, "deadline": order.began + LEASE}, say, clock.now, clock.pause):
        raise SystemExit(7)


def back(order: Order, elapsed: Synchronized[float]) -> None:
    """A controller comes back: it seals what a pod has committed alone, and takes what a pod still has."""
    as_verb(order, elapsed, _back)


def _back(order: Order, context: CommandContext, clock: Clock) -> None:
    folder = order.folder
    record = folder.load() if (folder.path / "run.json").exists() else new_record(order)
    vars(alone)["seal_pod_commit"] = functools.partial(podcommit.seal_pod_commit, patience=DeliveryPatience(pause=clock.pause))
    if record.result is None:
        if order.pod.exists():
            keep = Keep(WHY, 3) if order.kept else None
            bring(order, context, record, clock, roads.ResultSelection(["model/**"], [], keep))
        elif finish.find_result(context, record, folder) is None:
            print("the pod is gone, and its result is nowhere")
            raise SystemExit(6)
        folder.save(record)
    if roads.settle(context, record, folder):
        folder.save(record)
