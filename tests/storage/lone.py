"""A pod that commits alone, killed at any of its requests; and the seal, at any of its calls.

``python -m tests.storage.lone`` tries every point; the suite takes a sample.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient

from tests.storage.conftest import PART, Workspace, fresh_bucket, places_at, trained_pod, tree
from trainyard.pod import alone, tarball
from trainyard.pod.signed import SignedRequests
from trainyard.setup import s3server
from trainyard.storage import bucket, local, objects, podplan, seal
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import default_logs
from trainyard.storage.deliver import DeliveryPatience
from trainyard.storage.manifest import ResultKey
from trainyard.storage.podcommit import seal_pod_commit

WHERE = ResultKey("greg", "r1", 1)
HASTE = DeliveryPatience(rounds=3, tries=3, backoff=0.01, pause=lambda _: None)
SECRET = "5" * 64
END = {"exit_code": 0, "reason": ""}


def order_of(pod: Workspace, token: str = "t1") -> podplan.PodOrder:
    return podplan.PodOrder(
        WHERE, token, SECRET, pod.output, ["model/**"], ["checkpoint-*", "*.pt"], "checkpoints/checkpoint-*", None, [0], [75],
        default_logs(pod.output), 300.0,
    )  # fmt: skip


@dataclass
class Pod:
    """What the watchdog's fork does, in this process, on a clock that does not run."""

    settings: StoreSettings
    plan: Mapping[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    now: float = 0.0

    def commit(self, ending: Mapping[str, Any] = END, pending: object = None, deadline: float = 3600.0) -> int:
        order = {
            "plan": {**self.plan, "part_size": PART}, "secret": SECRET, "pending": pending,
            "ending": ending, "deadline": self.now + deadline,
        }  # fmt: skip
        return alone.commit_alone(json.loads(json.dumps(order)), lambda **event: self.events.append(event), lambda: self.now, self.go)

    def go(self, seconds: float) -> None:
        self.now += seconds

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


def keys(settings: StoreSettings) -> list[str]:
    return [item.key for item in bucket.listing(settings, "")]


class Killed(BaseException):
    """SIGKILL, as far as this process goes."""


class KillAt:
    """Stands in for a call and dies at the n-th, before it is made or after."""

    def __init__(self, real: Callable[..., Any], at: int) -> None:
        self.real, self.at, self.calls, self.lock = real, at, 0, threading.Lock()

    def __call__(self, *args: Any, **more: Any) -> Any:
        with self.lock:
            self.calls += 1
            mine = self.calls
        if mine * 2 == self.at or (self.calls * 2 > self.at + 1 > 0 and self.at):
            raise Killed
        answer = self.real(*args, **more)
        if mine * 2 + 1 == self.at:
            raise Killed
        return answer


def killed_pod(lone: Pod, patch: pytest.MonkeyPatch, at: int) -> bool:
    """Let the pod's part die at a point, then run it again as the watchdog does; False when there was no such point."""
    counting = KillAt(SignedRequests.once, at)
    with patch.context() as here:
        here.setattr(SignedRequests, "once", lambda *args: counting(*args))
        try:
            lone.commit()
        except Killed:
            pending = next((event["state"] for event in reversed(lone.events) if event["event"] == "pending"), None)
        else:
            return False
    assert lone.commit(pending=pending) == 0, lone.last
    return True


def killed_seal(settings: StoreSettings, patch: pytest.MonkeyPatch, at: int) -> bool:
    """Let the seal die at a point, then seal again; False when there was no such point."""
    counting = KillAt(BaseClient._make_api_call, at)
    with patch.context() as here:
        here.setattr(BaseClient, "_make_api_call", lambda *args: counting(*args))
        try:
            seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
        except Killed:
            pass
        else:
            return False
    assert seal_pod_commit(settings, WHERE, "t1", patience=HASTE) is not None or WHERE.success in keys(settings)
    return True


def check_sealed(settings: StoreSettings, pod: Workspace) -> None:
    """The result is there, byte for byte, and nothing else."""
    model = {WHERE.prefix + path: body for path, body in tree(Path(pod.output)).items() if path.startswith("model/")}
    there = {key for key in keys(settings) if not key.startswith(WHERE.logs)}
    assert there == {*model, WHERE.manifest, WHERE.success}
    assert {key: seal.read(settings, key) for key in model} == model
    assert objects.open_uploads(settings) == []


POD_POINTS, SEAL_POINTS = range(2, 40), range(2, 90)


def new_pod(settings: StoreSettings, pod: Workspace) -> Pod:
    """Return a pod with a plan for its bucket."""
    return Pod(settings, podplan.open_plan(settings, order_of(pod), time.time() + 3600, 1)[0])


def main() -> int:
    """Try every point; returns 1 when one of them has cost a result."""
    root, binary, patch = Path(tempfile.mkdtemp(prefix="tyl")), s3server.ensure(), pytest.MonkeyPatch()
    patch.setattr(tarball, "SMALLEST_PART", PART)
    places, bad = places_at(root), 0
    local.ensure(places, binary=binary)
    try:
        for part, at in [("pod", at) for at in POD_POINTS] + [("seal", at) for at in SEAL_POINTS]:
            settings, pod = fresh_bucket(local.ensure(places, binary=binary)), trained_pod(root / f"{part}{at}")
            lone = new_pod(settings, pod)
            try:
                if part == "pod":
                    killed_pod(lone, patch, at)
                    seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
                else:
                    lone.commit()
                    killed_seal(settings, patch, at)
                check_sealed(settings, pod)
            except Exception as error:  # the next point is tried all the same
                bad += 1
                print(f"{part} {at}: {type(error).__name__}: {error}")
        print(f"{len(POD_POINTS) + len(SEAL_POINTS)} points, {bad} bad")
    finally:
        local.stop(places)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
