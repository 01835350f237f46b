"""The road of a result: brief trouble decides nothing, what came home is pushed later, no upload is left open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.storage.conftest import Workspace, here, places_at, tree
from tests.storage.lying_proxy import Fault, LyingProxy
from tests.storage.test_commit import keys, open_uploads
from trainyard.clock import Clock
from trainyard.errors import DiskFull, HostKeyChanged, StoreError, Unreachable
from trainyard.remote.protocol import CommandResult, Transport
from trainyard.remote.reconnect import Reconnecting
from trainyard.runs.context import CommandContext
from trainyard.runs.life import roads
from trainyard.runs.life.roads import MARGIN, STORE_PATIENCE, DeliveryRoad, GivenUp, ResultSelection
from trainyard.runs.records.parts import PaidPod, RunBucket, RunPod, RunResult
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.storage import direct
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import Progress
from trainyard.storage.download import download
from trainyard.storage.manifest import Manifest, ResultKey
from trainyard.storage.push import push
from trainyard.storage.seal import seal

KEY = ResultKey("u", "r1", 1)
LEASE = 3600.0
DOWN = [Fault("any", "fail", times=10**6, status=503)]


@dataclass
class Told:
    """What a person is told."""

    lines: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.lines.append(text)

    say = fail = warn

    def stage(self, name: str, what: str) -> Any:
        from contextlib import nullcontext

        return nullcontext()


@dataclass
class FakeTime:
    """A clock that only moves when somebody waits; ``at`` says what happens when."""

    t: float = 0.0
    at: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def now(self) -> float:
        return self.t

    def pause(self, seconds: float) -> None:
        self.t += seconds
        for when, call in [one for one in self.at if one[0] <= self.t]:
            self.at.remove((when, call))
            call()


@dataclass
class FakePod:
    """A pod that is a folder here."""

    root: Path
    id: str = "pod-1"
    gone: bool = False

    def path(self, *parts: str) -> str:
        return "/".join((str(self.root), *parts))

    def over(self) -> str | None:
        return "the cloud says that pod pod-1 is gone" if self.gone else None


class Lossy:
    """A transport whose link is lost at the given commands."""

    name = "pod-1"

    def __init__(self, inner: Transport, lost: list[str], error: type[Unreachable] = Unreachable) -> None:
        self.inner, self.lost, self.error = inner, lost, error

    def exec(self, command: str, stdin: Any = None, **more: Any) -> CommandResult:
        for word in self.lost:
            if command.endswith(word):
                self.lost.remove(word)
                raise self.error("the connection was lost")
        return self.inner.exec(command, stdin, **more)

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Scene:
    """A run whose training is done, its pod, its bucket behind a lying proxy, and a clock."""

    context: Any
    record: RunRecord
    folder: RunFolder
    pod: FakePod
    clock: FakeTime
    told: Told
    settings: StoreSettings

    def way(self, lost: list[str] | None = None, error: type[Unreachable] = Unreachable) -> DeliveryRoad:
        transport = Reconnecting(lambda: Lossy(here(), lost if lost is not None else [], error), name="pod-1")
        clock = Clock(self.clock.now, self.clock.pause)
        return DeliveryRoad(self.context, self.record, self.folder, self.pod, transport, clock=clock)  # type: ignore[arg-type]

    def save(self, lost: list[str] | None = None) -> RunResult:
        self.record.result = self.way(lost).save(ResultSelection(["model/**"], ["*.pt"]))
        return self.record.result

    @property
    def said(self) -> str:
        return "\n".join(self.told.lines)


@pytest.fixture
def scene(through: StoreSettings, pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    told, clock = Told(), FakeTime()
    monkeypatch.setattr(roads, "store_of", lambda context, bucket, end=None: through if bucket else None)
    record = RunRecord("u", "r1", 1, "local", "command", {}, "0", 1.0, time.time(), token="a" * 32, phase="trained", starting=True)
    record.bucket = RunBucket(through.bucket)
    record.pod = RunPod(pod_id="pod-1", end=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(LEASE)))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    context = CommandContext(places_at(tmp_path / "root"), {}, told)  # type: ignore[arg-type]
    yield Scene(context, record, folder, FakePod(pod.root), clock, told, through)


def test_a_store_that_fails_for_a_while_is_asked_again(scene: Scene, proxy: LyingProxy) -> None:
    proxy.faults += DOWN
    scene.clock.at.append((25.0, proxy.reset))
    result = scene.save()
    assert (result.road, result.owed) == ("bucket", False) and 25 <= scene.clock.t < 60
    assert "tried again until " in scene.said and "then the result comes home" in scene.said and KEY.success in keys(scene.settings)


def test_a_pod_that_committed_alone_costs_until_then_though_another_machine_has_sealed_it(scene: Scene) -> None:
    scene.record.pods = [PaidPod("pod-1", 1.0, 0.0)]
    seal(scene.settings, Manifest(KEY, (), (), scene.record.token), None, "1970-01-01T00:10:00Z")

    result = scene.save([" scan"] * 99)

    assert (result.road, result.road_why) == ("bucket", "the pod committed it alone")
    assert [(pod.deleted, pod.by_itself) for pod in scene.record.pods] == [(600.0, True)]


@pytest.mark.parametrize("where", [" scan", " send", " sample", "committed"])
def test_a_lost_link_is_waited_for(where: str, scene: Scene) -> None:
    result = scene.save([where, where])
    assert result.road == "bucket" and open_uploads(scene.settings) == 0
    assert where == "committed" or ("no link to the pod" in scene.said and "link is back" in scene.said)


def test_a_store_that_stays_away_sends_the_result_home_and_it_is_pushed_when_the_pod_has_gone(
    scene: Scene, proxy: LyingProxy, tmp_path: Path
) -> None:
    proxy.faults += DOWN
    result = scene.save()
    assert (result.road, result.owed) == ("ssh", True) and "InternalError" in (result.road_why or "")
    assert STORE_PATIENCE <= scene.clock.t < STORE_PATIENCE + 120
    assert roads.settle(scene.context, scene.record, scene.folder) is False
    assert roads.is_owed(scene.record) and "invoke recover" in scene.told.lines[-1]
    proxy.reset()
    scene.folder.log.write_bytes(b"step 1\n")
    assert roads.settle(scene.context, scene.record, scene.folder) is True
    pushed = scene.record.result
    assert pushed and (pushed.road, pushed.owed, pushed.s3_key) == ("ssh, then bucket", False, KEY.model)
    assert pushed.road_why == result.road_why and pushed.manifest_sha256 == result.manifest_sha256
    download(scene.settings, "u/r1", tmp_path / "got")
    assert tree(tmp_path / "got") == tree(Path(pushed.local_path or "") / "model")
    assert KEY.logs + "train.log" in keys(scene.settings) and open_uploads(scene.settings) == 0


def test_a_long_transfer_says_every_ten_seconds_how_far_it_is(scene: Scene) -> None:
    way, text = scene.way(), "fetching the result over SSH"
    for scene.clock.t, done in ((0.0, 0), (4.0, 1_000_000), (12.0, 3_000_000), (13.0, 4_000_000)):
        way._progress(Progress("fetch", done, 9_000_000, text))

    assert [line.strip() for line in scene.told.lines] == [text, f"3.0 MB of 9.0 MB, 250.0 kB/s: {text}"]


def test_a_refusal_for_good_is_not_waited_for(scene: Scene, proxy: LyingProxy) -> None:
    proxy.faults.append(Fault("any", "fail", times=10**6, status=403))
    result = scene.save()
    assert (result.road, scene.clock.t) == ("ssh", 0.0) and result.owed


def test_without_a_bucket_nothing_is_owed(scene: Scene) -> None:
    scene.record.bucket = None
    assert scene.save().owed is False
    assert roads.settle(scene.context, scene.record, scene.folder) is False


def test_both_roads_are_tried_until_one_goes(scene: Scene, proxy: LyingProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise DiskFull("No space left on device")

    monkeypatch.setattr(direct, "fetch", full)
    proxy.faults += DOWN
    scene.clock.at.append((2 * STORE_PATIENCE, proxy.reset))
    assert scene.save().road == "bucket"
    assert "Both are tried again until" in scene.said


def test_when_neither_road_goes_the_error_comes_while_the_lease_leaves_time_to_act(
    scene: Scene, proxy: LyingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise DiskFull("No space left on device")

    monkeypatch.setattr(direct, "fetch", full)
    proxy.faults += DOWN
    with pytest.raises(DiskFull, match=r"InternalError.*; and over SSH: No space left"):
        scene.save()
    assert LEASE - MARGIN <= scene.clock.t < LEASE


def test_a_pod_that_the_cloud_has_ended_is_not_waited_for(scene: Scene) -> None:
    scene.pod.gone = True
    scene.clock.t = 1000.0
    with pytest.raises(Unreachable):
        scene.save([" scan"])
    assert scene.clock.t < 1100


def test_another_host_key_is_an_error_at_once(scene: Scene) -> None:
    with pytest.raises(HostKeyChanged):
        scene.way([" scan"], HostKeyChanged).save(ResultSelection(["model/**"], []))


def test_a_person_who_wants_nothing_saved_is_heard_while_it_waits_and_no_parts_stay(scene: Scene, proxy: LyingProxy) -> None:
    from tests.storage.test_push import left_open

    left_open(scene.settings, KEY.model + "model.safetensors")
    proxy.faults += DOWN
    scene.clock.at += [(25.0, lambda: scene.folder.cancel(now=True)), (26.0, proxy.reset)]
    with pytest.raises(GivenUp):
        scene.save()
    proxy.reset()
    assert roads.settle(scene.context, scene.record, scene.folder) is False
    assert open_uploads(scene.settings) == 0


def test_what_cannot_be_carried_is_told(scene: Scene) -> None:
    (scene.pod.root / "output/model/dangling").symlink_to("/nowhere")
    result = scene.save()
    assert result.not_carried == (("model/dangling", "a link to nothing"),)
    assert "not in the result: model/dangling: a link to nothing" in scene.said
    with pytest.raises(StoreError):
        scene.record.token = "b" * 32
        push(scene.settings, scene.pod.root, {})
