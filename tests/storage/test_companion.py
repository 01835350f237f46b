"""The thread beside a training: it sends ahead what is final, tells its trouble once, and ends when it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.storage.conftest import Workspace, here
from tests.storage.lying_proxy import Fault, LyingProxy
from tests.storage.test_ahead import TOKEN, checkpoint, pod  # noqa: F401
from tests.storage.test_commit import keys, run
from tests.storage.test_roads import KEY, FakePod, Scene, scene  # noqa: F401
from trainyard.errors import Unreachable
from trainyard.remote.protocol import Transport
from trainyard.retries import Backoff
from trainyard.runs.life import ahead
from trainyard.runs.life.ahead import Companion, beside
from trainyard.storage.bucket import listing


@dataclass
class LivePod(FakePod):
    """A pod that answers, or not."""

    answers: bool = True

    def connect(self) -> Transport:
        if not self.answers:
            raise Unreachable("no link")
        return here()

    def connect_sender(self) -> Transport:
        return self.connect()


@pytest.fixture
def live(scene: Scene, pod: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:  # noqa: F811
    """Give a companion of the scene's run that hurries."""
    monkeypatch.setattr(ahead, "store_of", lambda context, bucket: scene.settings)
    monkeypatch.setattr(ahead, "SOONEST", 0.05)
    monkeypatch.setattr(ahead, "LATEST", 0.05)
    monkeypatch.setattr(ahead, "_AFTER_TROUBLE", Backoff(0.05, 0.05))
    said = SimpleNamespace(outputs=["model/**"], excludes=["checkpoint-*"], checkpoints="checkpoints/*", checkpoint_mark="complete.json")
    monkeypatch.setattr(ahead, "declared_anywhere", lambda *_: said)
    scene.record.checkpoint_minutes, scene.record.token = 0.0, TOKEN
    scene.pod = LivePod(pod.root)
    return lambda: beside(scene.context, scene.record, scene.folder, scene.pod)  # type: ignore[arg-type]


def wait_for(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_while_it_runs_shards_and_checkpoints_go_ahead_and_at_its_end_the_commit_knows_them(
    live: Callable[[], Any], scene: Scene, pod: Workspace  # noqa: F811
) -> None:  # fmt: skip
    checkpoint(pod, 10)
    with live() as companion:
        wait_for(lambda: KEY.checkpoints + "checkpoint-10/_CHECKPOINT" in keys(scene.settings))
        known = companion.end()
    files = ("model/model-1.safetensors", "checkpoints/checkpoint-10/complete.json", "checkpoints/checkpoint-10/optimizer.bin")
    assert sorted(known) == sorted(files) and KEY.model + "model-1.safetensors" in keys(scene.settings)
    assert scene.told.lines == []


def test_a_store_that_is_down_is_told_once_and_gone_on_with_when_it_is_back(
    live: Callable[[], Any], scene: Scene, proxy: LyingProxy  # noqa: F811
) -> None:  # fmt: skip
    proxy.faults.append(Fault("any", "fail", times=10**6, status=503))
    with live() as companion:
        wait_for(lambda: companion.troubles > 2)
        proxy.reset()
        wait_for(lambda: KEY.model + "model-1.safetensors" in keys(scene.settings))
        companion.end()
    [line] = scene.told.lines
    assert line.startswith("nothing goes into the bucket ahead, the training is not touched by it: ")


def test_a_lost_link_is_left_to_whoever_follows_and_another_runs_result_ends_it(
    live: Callable[[], Any], scene: Scene, pod: Workspace  # noqa: F811
) -> None:  # fmt: skip
    assert isinstance(scene.pod, LivePod)
    scene.pod.answers = False
    with live() as companion:
        time.sleep(0.3)
        assert scene.told.lines == []
        run(scene.settings, pod, KEY, token="another")
        scene.pod.answers = True
        wait_for(lambda: not companion._thread.is_alive())
    assert "belongs to another run" in scene.told.lines[0]


def test_a_person_who_cancels_at_once_does_not_wait_for_it(live: Callable[[], Any], scene: Scene, proxy: LyingProxy) -> None:  # noqa: F811
    with live() as companion:
        proxy.faults.append(Fault("any", "call", times=1, then=lambda: time.sleep(3)))
        wait_for(lambda: proxy.seen)
        Path(scene.folder.path, "cancelled").write_text("now")
        began = time.monotonic()
        assert isinstance(companion, Companion)
        companion.end()
    assert time.monotonic() - began < 2 and list(listing(scene.settings, KEY.prefix)) == []
