"""Trackers are fed from metrics.jsonl by a process of their own: what is down costs no run anything and is caught up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.road import STACK, Road
from trainyard.config import Places, places
from trainyard.errors import UserError
from trainyard.runs.records.parts import StartedFrom
from trainyard.runs.records.record import RunRecord
from trainyard.runs.trackers import start
from trainyard.runs.trackers.describe import lineage, tracked_run
from trainyard.runs.trackers.feed import feed
from trainyard.runs.trackers.figures import Point, point_of
from trainyard.runs.trackers.tracked import Feed, Outcome, TrackedRun, TrackerFolder
from trainyard.runs.trackers.tracker import KINDS
from trainyard.secret import Secret

RUN = TrackedRun(id="a-1", name="ann/a", project="p", config={"lr": 0.1}, tags=["lora"], folder="/nowhere")
LINE = '{{"step": {0}, "total_steps": 9, "time": {1}, "loss": {2}, "lr": null, "data": {{"read": 1}}, "ok": true}}\n'


class Service:
    """A tracker that a test plays: ``refuses`` tells how often it raises, ``sure`` whether send() says that all has arrived."""

    def __init__(self, *, sure: bool = True, refuses: int = 0) -> None:
        self.sure, self.refuses = sure, refuses
        self.steps: list[int] = []
        self.ends: list[Outcome | None] = []
        self.opened = 0
        self.pending: list[int] = []

    def open(self, name: str, run: TrackedRun) -> Service:
        self.opened, self.pending = self.opened + 1, []
        return self

    def send(self, points: Sequence[Point]) -> bool:
        if self.sure:
            self._answer()
        self.pending += [point.step for point in points]
        if self.sure:
            self._arrive()
        return self.sure

    def close(self, outcome: Outcome | None) -> None:
        self._answer()
        self._arrive()
        self.ends.append(outcome)

    def _arrive(self) -> None:
        self.steps += self.pending
        self.pending = []

    def _answer(self) -> None:
        if self.refuses:
            self.refuses -= 1
            raise ConnectionError("no answer of https://x with key s3cret-and-long\nand a page more")


@pytest.fixture
def place(tmp_path: Path) -> TrackerFolder:
    made = TrackerFolder(tmp_path)
    made.begin(RUN, ["wandb"])
    return made


def write(place: TrackerFolder, *steps: int, at: float = 100.0) -> None:
    with place.metrics.open("a") as file:
        file.writelines(LINE.format(step, at + step, 9.5 - step) for step in steps)


def waits(*then: Callable[[], object]) -> Callable[[float], bool]:
    """Return a wait in which something happens each time, until the controller has gone."""
    left = list(then)

    def wait(seconds: float) -> bool:
        if left:
            left.pop(0)()
            return True
        return False

    return wait


def test_a_line_is_a_point_of_its_finite_numbers() -> None:
    assert point_of(LINE.format(3, 4.5, 1.25).encode()) == Point(3, 4.5, {"loss": 1.25})
    assert point_of(b'{"step": 1, "loss": NaN, "eval_loss": 2}') == Point(1, None, {"eval_loss": 2.0})
    assert [point_of(line) for line in (b"{", b"[]", b'{"loss": 1}', b'{"step": 1, "loss": NaN}', b'{"step": true}')] == [None] * 5


def test_points_are_told_as_they_come_whole_lines_only_and_how_the_run_ended_at_last(place: TrackerFolder) -> None:
    service, end = Service(), Outcome("succeeded", {"cost_dollars": 1.5})
    write(place, 1, 2)

    def half() -> None:
        with place.metrics.open("a") as file:
            file.write('{"step": 3, "loss"')

    def rest() -> None:
        assert service.steps == [1, 2]
        with place.metrics.open("a") as file:
            file.write(": 5}\n")
        place.end(end)

    feed(place, "wandb", waits(half, rest), opener=service.open)

    assert (service.steps, service.ends, service.opened) == ([1, 2, 3], [end], 1)
    assert place.feed("wandb") == Feed(offset=place.metrics.stat().st_size, step=3, done=True)


@pytest.mark.parametrize("sure", [True, False], ids=["answers at once", "answers at its close"])
def test_a_tracker_that_is_down_is_told_everything_when_it_answers_and_no_key_is_kept_of_its_words(
    place: TrackerFolder, sure: bool
) -> None:
    key, service = Secret("s3cret-and-long"), Service(sure=sure, refuses=2)
    write(place, 1, 2, 3)

    feed(place, "wandb", waits(), opener=service.open)
    assert place.feed("wandb") == Feed(problem=f"ConnectionError: no answer of https://x with key {key}")
    assert service.steps == [] and place.first_told("wandb") and not place.first_told("wandb")

    write(place, 4)
    place.end(Outcome("failed", {}))
    feed(place, "wandb", waits(), opener=service.open)
    assert (service.steps, [end and end.word for end in service.ends]) == ([1, 2, 3, 4], ["failed"])
    assert place.feed("wandb").done and place.first_told("wandb"), "the next trouble is told again"


def test_a_run_that_goes_on_is_told_once_only_and_one_without_figures_never_opens_a_tracker(place: TrackerFolder) -> None:
    service = Service()
    feed(place, "wandb", waits(), opener=service.open)
    assert service.opened == 0

    write(place, 1)
    feed(place, "wandb", waits(), opener=service.open)
    write(place, 2)
    feed(place, "wandb", waits(), opener=service.open)
    place.end(Outcome("cancelled", {}))
    for _ in range(2):
        feed(place, "wandb", waits(), opener=service.open)

    assert service.steps == [1, 2] and [end and end.word for end in service.ends] == [None, None, "cancelled"]


def test_many_lines_are_sent_some_hundred_at_once_and_kept_as_they_arrive(place: TrackerFolder) -> None:
    write(place, *range(1, 1001))
    seen: list[int] = []

    class Counting(Service):
        def send(self, points: Sequence[Point]) -> bool:
            seen.append(len(points))
            return super().send(points)

    feed(place, "wandb", waits(), opener=(service := Counting()).open)
    assert seen == [200] * 5 and service.steps == list(range(1, 1001))


@pytest.mark.parametrize(
    ("tracker", "since", "told"),
    [("wandb", 104.5, [4, 5, 6]), ("mlflow", 104.5, [5, 6]), ("mlflow", 0.0, [1, 2, 3, 4, 5, 6])],
    ids=["known here", "known elsewhere", "the first attempt"],
)
def test_a_resumed_attempt_leaves_out_what_those_before_have_told(tmp_path: Path, tracker: str, since: float, told: list[int]) -> None:
    first, second, third = (TrackerFolder(tmp_path / name) for name in "123")
    first.begin(RUN, ["wandb"])
    first.save("wandb", Feed(step=3))
    second.begin(replace(RUN, since=since, after=str(tmp_path / "1")), [tracker])
    feed(second, tracker, waits(), opener=Service().open)  # it came to no figures
    third.begin(replace(RUN, since=since, after=str(tmp_path / "2")), ["wandb"])
    write(third, *range(1, 7))
    feed(third, "wandb", waits(), opener=(service := Service()).open)
    assert service.steps == told


def test_all_attempts_of_a_resumed_run_are_one_run_to_a_tracker_and_no_path_or_secret_is_told(tmp_path: Path) -> None:
    road_places = _places(tmp_path)
    Secret("hf_0123456789")
    record = RunRecord(
        user="ann", label="a", attempt=1, environment="gpu", recipe="lora", bundle_sha256="", hours=1, created=5.0, token="t1",
        values={"data": "/home/ann/rows.jsonl", "command": ["a b", "c"], "note": "hf_0123456789", "lr": 0.1},
    )  # fmt: skip
    first = tracked_run(record, road_places, "p")
    before = record.id.folder(road_places.runs)
    before.mkdir(parents=True)
    came = StartedFrom(run="ann/a/1", path="checkpoints/checkpoint-5", manifest_sha256="")
    again = replace(record, attempt=2, token="t2", tracked_as=lineage(record), resumed_from=came)
    second, third = tracked_run(again, road_places, "p"), replace(again, attempt=3, tracked_as=lineage(again), token="t3")
    fresh = replace(record, attempt=2, token="t2")

    assert first.config == {
        "data": "rows.jsonl", "command": "'a b' c", "note": "***", "lr": 0.1,
        "recipe": "lora", "stack": "gpu", "user": "ann", "commit": None,
    }  # fmt: skip
    assert (second.id, second.name, second.after, second.since) == (first.id, "ann/a", str(before), 5.0)
    assert tracked_run(replace(again, resumed_from=replace(came, run="ann/b/1")), road_places, "p").after is None
    assert tracked_run(third, road_places, "p").id == first.id
    assert tracked_run(fresh, road_places, "p").id != first.id and tracked_run(fresh, road_places, "p").name == "ann/a.2"


# --- a whole run, and the real process ------------------------------------------------------------------------------------

LOSSES = """for n in 1 2 3; do echo "{\\"step\\": $n, \\"loss\\": $((9 - n))}" >>$OUTPUT_DIR/metrics.jsonl; done
mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt"""


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    yield made
    made.lose_pod()


def test_a_run_whose_tracker_cannot_be_told_succeeds_and_says_it_once_and_is_caught_up_by_a_later_command(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "mlflow", replace(KINDS["mlflow"], package="no_such_package"))
    road.settle("trackers: [mlflow]")
    env = {**road.context.env, "PYTHONPATH": str(without(road, "mlflow")), "MLFLOW_TRACKING_TOKEN": "s3cret-token"}
    road.context = replace(road.context, env=env)
    summary = road.run(LOSSES, name="a")
    place = TrackerFolder(road.context.places.runs / "ann" / "a" / "1")
    fed(place, "mlflow")
    assert summary.success and "trackers: mlflow: its package 'no_such_package' is not installed" in road.said()
    outcome = place.outcome()
    assert "is not installed" in place.feed("mlflow").problem and outcome is not None and outcome.success

    for later in (0.0, 100.0):
        start.catch_up(road.context, time.time() + later)
        fed(place, "mlflow")
    assert road.said().count("mlflow is not told of this run") == 1
    place.save("mlflow", Feed(done=True))
    start.catch_up(road.context, time.time())
    assert list((road.context.places.trackers / "waiting").iterdir()) == []


def test_what_could_not_be_told_for_a_week_is_given_up(road: Road) -> None:
    waiting = road.context.places.trackers / "waiting"
    waiting.mkdir(parents=True)
    (waiting / "ann.a.1").touch()
    place = TrackerFolder(road.context.places.runs / "ann" / "a" / "1")
    place.begin(RUN, ["wandb"])
    start.catch_up(road.context, time.time() + 6 * 86400)
    assert [mark.name for mark in waiting.iterdir()] == ["ann.a.1"]
    start.catch_up(road.context, time.time() + 8 * 86400)
    assert list(waiting.iterdir()) == []


def test_a_tracker_that_there_is_not_is_refused_at_its_line(road: Road) -> None:
    road.settle("trackers: [wandb, comet]")
    with pytest.raises(UserError, match="must look like wandb or tensorboard or trackio or mlflow, not 'comet'") as refused:
        road.run(LOSSES)
    assert f"Pulumi.{STACK}.yaml:5" in str(refused.value)


def test_a_run_without_trackers_starts_no_process_and_leaves_no_folder(road: Road) -> None:
    assert road.run(LOSSES, name="a").success
    assert not (road.context.places.runs / "ann" / "a" / "1" / "trackers").exists() and not road.context.places.trackers.exists()


def without(road: Road, package: str) -> Path:
    """Return a folder of modules in which a package cannot be loaded, whatever is installed."""
    folder = road.context.places.root / "modules"
    folder.mkdir()
    (folder / f"{package}.py").write_text("raise ImportError('not here')\n")
    return folder


def fed(place: TrackerFolder, *names: str) -> None:
    """Wait until the process that feeds a tracker has come to its end."""
    deadline = time.monotonic() + 60
    for name in names:
        while not (place.feed(name).done or place.feed(name).problem) and time.monotonic() < deadline:
            time.sleep(0.02)
        with place.feeding(name):
            pass


def _places(tmp_path: Path) -> Places:
    return places(tmp_path, {"HOME": str(tmp_path)})
