"""A pod commits alone: one tar by signed URLs, a marker that no training can forge; any machine with the bucket seals it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import PART, Workspace, tree
from trainyard.pod import alone, tarball
from trainyard.storage import bucket, objects, podplan, seal
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import default_logs
from trainyard.storage.deliver import DeliveryPatience
from trainyard.storage.download import download
from trainyard.storage.manifest import ResultKey
from trainyard.storage.podcommit import seal_pod_commit

WHERE = ResultKey("greg", "r1", 1)
HASTE = DeliveryPatience(rounds=3, tries=3, backoff=0.01, pause=lambda _: None)
END = {"exit_code": 0, "reason": ""}


def order_of(pod: Workspace, token: str = "t1") -> podplan.PodOrder:
    return podplan.PodOrder(
        WHERE, token, pod.output, ["model/**"], ["checkpoint-*", "*.pt"], "checkpoints/checkpoint-*", None, [0], [75],
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
            "plan": {**self.plan, "part_size": PART}, "secret": podplan.secret_of(self.settings, WHERE, "t1"), "pending": pending,
            "ending": ending, "deadline": self.now + deadline,
        }  # fmt: skip
        return alone.commit_alone(json.loads(json.dumps(order)), lambda **event: self.events.append(event), lambda: self.now, self.go)

    def go(self, seconds: float) -> None:
        self.now += seconds

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


@pytest.fixture
def lone(settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch) -> Pod:
    monkeypatch.setattr(tarball, "SMALLEST_PART", PART)
    return Pod(settings, podplan.open_plan(settings, order_of(pod), time.time() + 3600, 0)[0])


def keys(settings: StoreSettings) -> list[str]:
    return [item.key for item in bucket.listing(settings, "")]


def test_the_tar_becomes_a_result_like_any_other(settings: StoreSettings, pod: Workspace, lone: Pod, tmp_path: Path) -> None:
    assert lone.commit() == 0, lone.last
    assert keys(settings) == [WHERE.pod_committed, WHERE.pod_tar]

    done = seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    got = download(settings, "greg/r1", tmp_path, whole=True)

    assert done is not None and done.ending is None and got.manifest_sha256 == done.manifest_sha256
    model = {path: body for path, body in tree(Path(pod.output)).items() if path.startswith("model/")}
    assert {path: body for path, body in tree(tmp_path).items() if not path.startswith("_")} == model
    assert seal.read(settings, WHERE.logs + "train.log") == b"step 1\nstep 2\n"
    assert not {WHERE.pod_committed, WHERE.pod_tar} & set(keys(settings)) and objects.open_uploads(settings) == []
