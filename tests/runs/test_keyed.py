"""A key said again gives the run that it gave first: while it is begun, trains, is over, and after whoever began it has died."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.road import STACK, Road, failed
from trainyard.cli.driving import drive_prepared, keyed
from trainyard.errors import Busy, RefusedError, UserError
from trainyard.ledger.ledger import Ledger
from trainyard.recipes.configfile import ConfigDocument
from trainyard.runs.life import drive as driving
from trainyard.runs.life.drive import drive
from trainyard.runs.records.record import RunFolder, all_folders
from trainyard.runs.signals import LeaveSignal
from trainyard.runs.verbs import keyed as keyed_runs
from trainyard.runs.verbs.keyed import KeyedRun, begin_keyed, start_key
from trainyard.runs.verbs.train import TrainRequest, prepare
from trainyard.yamlfile import Map

JOB = "echo hi; mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt"
FORK = multiprocessing.get_context("fork")


def road_at(base: Path, monkeypatch: pytest.MonkeyPatch) -> Road:
    made = Road(base, monkeypatch)
    made.script.write_text(f"#!/bin/sh\n{JOB}\n")
    return made


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = road_at(tmp_path, monkeypatch)
    yield made
    made.lose_pod()


def asked(road: Road, **changes: Any) -> TrainRequest:
    sets = (f"script={road.script}", *changes.pop("sets", ()))
    return TrainRequest(stack=STACK, recipe="command", sets=sets, **changes)


def said(road: Road, key: str = "k", **changes: Any) -> RunFolder | KeyedRun:
    request = asked(road, **changes)
    return begin_keyed(
        road.context, start_key(road.context, key, "train", request), lambda start: prepare(road.context, replace(request, key=start))
    )


def command(road: Road, *, detach: bool = False, as_json: bool = False, **changes: Any) -> int:
    """What `invoke train --key k` does; returns the exit code."""
    request, context = asked(road, **changes), road.context
    start = keyed(context, "k", "train", request)
    return drive_prepared(context, as_json, lambda key: prepare(context, replace(request, key=key)), detach=detach, start=start)


def runs(road: Road) -> list[str]:
    return sorted(str(path.parent.relative_to(road.context.places.runs)) for path in road.context.places.runs.glob("*/*/[0-9]*/run.json"))


def test_the_same_key_gives_the_same_run_whatever_it_is_called_with(road: Road) -> None:
    first = said(road, name="a")
    again = said(road, name="a", yes=True, detach=True)

    assert isinstance(first, RunFolder) and isinstance(again, KeyedRun)
    assert again.folder is not None and again.folder.path == first.path
    assert "key k: run ann/a, begun" in " ".join(road.said().split()) and runs(road) == ["ann/a/1"]
    with pytest.raises(RefusedError, match=r"What differs: --hours, --name, --set args") as refusal:
        said(road, name="b", hours=2.0, sets=("args=1",))
    assert "nothing was begun" in refusal.value.message and runs(road) == ["ann/a/1"]
    document = Map()
    document.update(args=["1"])
    with pytest.raises(RefusedError, match=r"What differs: values args\n"):
        said(road, name="a", values=ConfigDocument(document, road.context.places.root, "values"))
    assert runs(road) == ["ann/a/1"]


def test_a_key_whose_start_rented_nothing_may_be_used_again(road: Road) -> None:
    road.engine.trouble = lambda stack, operation: failed(operation, "no-capacity") if operation == "up" and "." in stack.name else None
    assert command(road) == 4
    road.engine.trouble = lambda *_: None
    assert command(road) == 0 and len(runs(road)) == 2 and command(road) == 0 and len(runs(road)) == 2


def test_a_key_whose_start_was_cut_off_before_a_training_began_may_be_used_again(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object) -> None:
        raise LeaveSignal("SIGTERM")

    with monkeypatch.context() as patched:
        patched.setattr(driving, "_start", cut_off)
        assert command(road) == 130
    assert road.cloud.alive() == [] and [bool(folder.load().pods) for folder in all_folders(road.context.places.runs)] == [True]
    assert command(road) == 0 and len(runs(road)) == 2 and command(road) == 0 and len(runs(road)) == 2


def test_a_run_that_was_begun_and_left_lying_is_gone_on_with(road: Road) -> None:
    assert isinstance(said(road), RunFolder)
    assert command(road, detach=True) == 0 and len(runs(road)) == 1


def test_who_is_killed_between_the_key_and_the_run_leaves_the_key_to_the_next(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Ledger.reserve

    def killed(self: Ledger, *given: Any) -> Any:
        reserve(self, *given)
        os._exit(9)

    def die() -> None:
        monkeypatch.setattr(Ledger, "reserve", killed)
        said(road)

    child = FORK.Process(target=die)
    child.start()
    child.join()
    assert child.exitcode == 9 and runs(road) == []

    assert isinstance(said(road), RunFolder) and isinstance(said(road), KeyedRun) and len(runs(road)) == 1


@pytest.mark.parametrize("name", [None, "a"])
def test_of_two_processes_with_one_key_one_begins_and_the_other_comes_to_its_run(road: Road, name: str | None) -> None:
    road.prepare(name="warm")  # what both need stands by now: they meet at the key
    gate, results = FORK.Barrier(2), FORK.Queue()

    def one() -> None:
        gate.wait()
        got = said(road, name=name)
        folder = got if isinstance(got, RunFolder) else got.folder
        results.put((type(got).__name__, str(folder.path) if folder else ""))

    children = [FORK.Process(target=one) for _ in range(2)]
    for child in children:
        child.start()
    got = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()

    assert sorted(kind for kind, _ in got) == ["KeyedRun", "RunFolder"] and len({path for _, path in got}) == 1
    assert len([run for run in runs(road) if "/warm/" not in run]) == 1


@pytest.fixture
def other(tmp_path: Path, road: Road, monkeypatch: pytest.MonkeyPatch) -> Road:
    """Another machine's checkout with the same ledger."""
    (tmp_path / "other").mkdir()
    made = road_at(tmp_path / "other", monkeypatch)
    made.context.places.ledger.parent.mkdir(parents=True, exist_ok=True)
    made.context.places.ledger.symlink_to(road.context.places.ledger)
    made.script = road.script
    return made


def test_who_has_begun_a_run_follows_it_where_another_who_said_the_key_drives_it(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(_: object, prepared: Callable[[], RunFolder], *, detach: bool) -> None:
        prepared()
        raise Busy("this run is driven by process 1")

    monkeypatch.setattr("trainyard.runs.verbs.beginning.begin", overtaken)
    assert command(road) == 0 and len(all_folders(road.context.places.runs)) == 1


def test_a_run_that_failed_is_told_here_and_elsewhere_with_its_own_exit_code_and_not_run_again(
    road: Road, other: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    road.script.write_text("#!/bin/sh\nexit 3\n")
    assert command(road) == 1 and command(road, as_json=True) == 1 and len(runs(road)) == 1
    assert json.loads(capsys.readouterr().out)["run"] == runs(road)[0].rpartition("/")[0]
    assert command(other, as_json=True) == 1 and json.loads(capsys.readouterr().out)["state"] == "failed" and runs(other) == []
    with road.context.ledger().database.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'succeeded'")
    assert command(other) == 0


def test_a_run_of_another_machine_is_told_by_its_state(road: Road, other: Road) -> None:
    first = said(road)
    assert isinstance(first, RunFolder)
    assert command(other) == Busy.exit_code and runs(other) == []
    record = first.load()
    record.phase = "started"
    with road.context.ledger().database.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'started'")
    assert command(other, detach=True) == 0 and command(other) == 11
    assert f"run {record.id} is driven from" in " ".join(other.said().split())


def test_a_machine_that_died_before_it_rented_loses_the_key_and_rents_nothing_when_it_comes_back(
    road: Road, other: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = said(road)
    assert isinstance(lying, RunFolder) and isinstance(said(other), KeyedRun)
    monkeypatch.setattr(keyed_runs, "_UNRENTED", -1.0)

    assert isinstance(said(other), RunFolder) and len(runs(other)) == 1
    summary = drive(road.context, lying)

    assert not summary.success and "was used for another run since" in str(summary.error)
    assert not any(operation == "up" and "." in stack for stack, operation in road.engine.asked)


def test_a_machine_that_may_have_rented_keeps_the_key(road: Road, other: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    first = said(road)
    assert isinstance(first, RunFolder)
    road.context.ledger().add(first.load().id, "up")
    monkeypatch.setattr(keyed_runs, "_UNRENTED", -1.0)

    assert isinstance(said(other), KeyedRun)


def test_a_key_is_refused_that_is_none(road: Road) -> None:
    for key in ("", "two words", "ü", "x" * 256):
        with pytest.raises(UserError, match="--key takes"):
            said(road, key)
