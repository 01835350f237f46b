"""A whole run in this process: the verbs and the life of a run are the real ones, what lies beyond their seams is played.

The engine is a page that writes the state which a real one would leave, the cloud a model in a folder, the pod a folder
of this machine whose commands are real processes. The real engine, cloud and SSH are in tests/e2e.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.leases.model_cloud import PLAIN, ModelCloud
from trainyard.clock import format_time
from trainyard.clouds.protocol import OfferQuery, PodSpec
from trainyard.config import PROJECT, places
from trainyard.engine import secrets
from trainyard.errors import Unreachable
from trainyard.problems import Problem
from trainyard.remote.keys import new_ssh_key
from trainyard.remote.local import LocalTransport
from trainyard.runs import context as contexts
from trainyard.runs.context import CommandContext
from trainyard.runs.life import teardown
from trainyard.runs.life.drive import drive
from trainyard.runs.records import pod as pods
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import RunSummary
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import train
from trainyard.stacks import facade
from trainyard.stacks.model import OnEvent, Operation, OperationOutcome, Stack
from trainyard.stacks.state import backend

FENCE, LEASE = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
STACK = "dev"


@dataclass
class PlayedEngine:
    """Leaves the state that an engine would; ``trouble`` (stack, operation) may answer in its place."""

    cloud: ModelCloud
    workspace: Path
    keys: Path
    asked: list[tuple[str, str]] = field(default_factory=list)
    trouble: Callable[[Stack, Operation], OperationOutcome | None] = lambda *_: None
    end: timedelta = timedelta(hours=2)

    def operate(self, stack: Stack, operation: Operation, on_event: OnEvent) -> OperationOutcome:
        """Stand in for one operation on an engine."""
        self.asked.append((stack.name, operation))
        if (outcome := self.trouble(stack, operation)) is not None:
            return outcome
        resources: list[dict[str, Any]] = []
        if operation in ("up", "refresh"):
            resources = self._environment(stack) if "." not in stack.name else self._pod()
        if operation == "destroy":
            for pod_id in self.cloud.alive() if "." in stack.name else []:
                self.cloud.terminate(pod_id)
        if operation != "preview":
            self.write(stack, resources)
        on_event({"event": "summary", "changes": {}})
        return OperationOutcome("builtin", operation, 0, 0.0)

    def write(self, stack: Stack, resources: list[dict[str, Any]]) -> None:
        """Put resources into a stack's checkpoint."""
        store = backend(stack)
        assert store is not None
        path = store.checkpoint_path(PROJECT, stack.name)
        document = json.loads(path.read_text())
        document["checkpoint"]["latest"]["resources"] = resources
        path.write_text(json.dumps(document))

    def _environment(self, stack: Stack) -> list[dict[str, Any]]:
        outputs = {
            "fence_id": FENCE, "bucket": "none", "ssh_key_file": str(self.keys), "ssh_public_key": "ssh-ed25519 AAAA",
            "ssh_private_key": self.keys.read_text(), "host_key_seed": "seed", "pods": [],
        }  # fmt: skip
        return [_resource("pulumi:pulumi:Stack", outputs), _resource("trainyard:index:Lease", {"lease_id": FENCE, "fence_id": FENCE})]

    def _pod(self) -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        end = now + self.end
        spec = PodSpec(name=f"ty-{FENCE}-{LEASE}-pod-00000000", fence_id=FENCE, lease_id=LEASE, stop=end - timedelta(minutes=30), end=end)
        alive = self.cloud.alive()
        pod_id = alive[0] if alive else self.cloud.create(spec, self.cloud.offers(OfferQuery())[0]).id
        pod = {
            "pod_id": pod_id, "price_per_hour": 1.0, "gpu": None, "gpu_count": 0, "offer": "A-1", "region": "",
            "created_at": format_time(now), "workspace": str(self.workspace), "host_key": None,
        }  # fmt: skip
        lease = {"lease_id": LEASE, "fence_id": FENCE, "stop": format_time(spec.stop), "end": format_time(end)}
        way = {"host": "127.0.0.1", "port": 22, "user": "root"}
        return [
            _resource("pulumi:pulumi:Stack", pod | lease | way | {"pod_region": "", "simulated": True}),
            _resource("trainyard:index:Lease", lease, LEASE),
            _resource("trainyard:index:Pod", pod, pod_id),
            _resource("trainyard:index:Endpoint", way, pod_id),
        ]


class Road:
    """One checkout and all that it reaches."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch.setattr
        root, self.workspace = base / "yard", base / "pod"
        root.mkdir()
        env = {
            "PATH": os.environ["PATH"], "HOME": str(base), "PULUMI_CONFIG_PASSPHRASE": "p", "TRAINYARD_USER": "ann",
            "TRAINYARD_LOCAL_ROOT": str(base / "outside"), "XDG_CONFIG_HOME": str(base / "config"),
        }  # fmt: skip
        self.settings = root / f"Pulumi.{STACK}.yaml"
        self.settings.write_text("config:\n  trainyard:cloud: local\n  trainyard:bucket: none\n  trainyard:upload_consent: always\n")
        (root / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\nmain: infra/\n")
        self.screen = io.StringIO()
        self.context = CommandContext(places(root, env), env, Ui(stream=self.screen))
        self.script = root / "job.sh"
        self.cloud = ModelCloud(base / "cloud", capabilities=replace(PLAIN, settle=0.0, listings=1, post_timeout=1.0))
        key, _ = new_ssh_key()
        keys = self.context.places.ssh / STACK / "id_ed25519"
        keys.parent.mkdir(parents=True)
        keys.write_text(key)
        self.engine = PlayedEngine(self.cloud, self.workspace, keys)
        self.unreachable = 0
        """How many connections are refused from now on."""
        self.patch(secrets, "_ROUNDS", 1)  # no other process opens what is sealed here
        self.patch(facade, "_once", self.engine.operate)
        self.patch(contexts, "open_cloud", lambda *_: self.cloud)
        self.patch(pods, "dial", self._connect)
        self.patch(pods, "_SURE", 0.0)
        self.patch(teardown, "_PAUSE", 0.0)
        self.patch(teardown, "PATIENCE", 1.0)
        self.armed()

    def armed(self, **says: object) -> None:
        """Let the pod's watchdog say that it is armed and sees its pod."""
        watchdog = self.workspace / ".trainyard" / "watchdog"
        watchdog.mkdir(parents=True, exist_ok=True)
        (watchdog / "status.json").write_text(json.dumps({"armed": True, "key_sees_pod": True, "proof": "its own key", **says}))

    def settle(self, line: str) -> None:
        """Add a line to the stack's settings."""
        self.settings.write_text(self.settings.read_text() + f"  trainyard:{line}\n")

    def prepare(
        self,
        script: str = "echo hi; mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt",
        *,
        sets: Sequence[str] = (),
        **asked: Any,
    ) -> RunFolder:
        """Prepare a run of a script."""
        self.script.write_text(f"#!/bin/sh\n{script}\n")
        wanted = train.TrainRequest(stack=STACK, recipe="command", sets=(f"script={self.script}", *sets), **asked)
        return train.prepare(self.context, wanted)

    def run(self, script: str = "echo hi; mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt", **asked: Any) -> RunSummary:
        """Run a script from ``train`` to its end."""
        return drive(self.context, self.prepare(script, **asked))

    def while_training(self, act: Callable[[], object], script: str, **asked: Any) -> tuple[RunSummary, list[Any]]:
        """Run a script, and act once its training has printed "going"; return the summary and what came of the act."""
        came: list[Any]
        folder, came = self.prepare(script, name="a", **asked), []

        def wait_and_act() -> None:
            deadline = time.monotonic() + 60
            while not (folder.log.is_file() and b"going" in folder.log.read_bytes()) and time.monotonic() < deadline:
                time.sleep(0.02)
            try:
                came.append(act())
            except BaseException as error:
                came.append(error)
                folder.cancel(now=True)  # else the run goes on for ever

        thread = threading.Thread(target=wait_and_act)
        thread.start()
        try:
            return drive(self.context, folder), came
        finally:
            thread.join(60)
            self.lose_pod()

    def lose_pod(self) -> None:
        """Kill all that runs on the pod."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"HOME={self.workspace}\0".encode() in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)

    def said(self) -> str:
        """Return what was shown to the person."""
        return self.screen.getvalue()

    def _connect(self, *_: object, **__: object) -> LocalTransport:
        if self.unreachable:
            self.unreachable -= 1
            raise Unreachable("no route to the pod")
        return LocalTransport(env={"PATH": os.environ["PATH"], "HOME": str(self.workspace)})


def failed(operation: Operation, kind: str = "engine", message: str = "no", **facts: Any) -> OperationOutcome:
    """Return the outcome of an operation that failed."""
    return OperationOutcome("builtin", operation, 1, 0.0, errors=(message,), problems=(Problem(kind, message, facts=facts),))


def _resource(kind: str, outputs: dict[str, Any], identity: str | None = None) -> dict[str, Any]:
    named = {"id": identity} if identity else {}
    return {"urn": f"urn:pulumi:s::trainyard::{kind}::x", "type": kind, "custom": True, "outputs": outputs, **named}
