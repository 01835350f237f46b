"""The list of runs is read at 80 columns, in a pipe and in ASCII: names and words whole; wide where there is room."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainyard.clock import format_time, parse_time
from trainyard.config import places
from trainyard.errors import UserError
from trainyard.ledger.rows import RunFilter
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunPod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.listing import ListedRun, RunListing, asked_for, known_run, list_runs
from trainyard.runs.verbs.runtable import lines

NOON = 1_796_000_000.0


def run(name: str = "root/2026-11-29-024025", **more: Any) -> ListedRun:
    usual = ListedRun(
        run=name, attempt=1, stack="local", recipe="command", state="succeeded", steps_done=25, steps_planned=25, loss=0.5,
        created=format_time(NOON), duration=723.0, learning_rate=1e-4,
    )  # fmt: skip
    return replace(usual, **more)


def shown(*runs: ListedRun, width: int = 80, more: int = 0) -> list[str]:
    return lines(RunListing(runs, more), width)


def test_names_and_figures_of_runs_are_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    told = shown(
        run(s3_url="s3://b/models/x/"),
        run("root/first", recipe="lora", state="failed, not ended", local_path="/out", over=False, eta=200.0, steps_done=123456,
            steps_planned=250000, cost=1234.5),
    )  # fmt: skip

    assert all(len(line) <= 80 and line.isascii() for line in told)
    assert told[0].split() == ["run", "state", "steps", "loss", "$"]
    assert told[1].split() == ["date", "duration", "lr", "ETA", "result", "recipe", "stack"]
    assert told[2].split() == ["root/2026-11-29-024025", "succeeded", "25/25", "0.5000", "0.00"]
    day = ["2026-11-30", "00:53"]
    assert told[3].split() == [*day, "12m03s", "0.0001", "-", "bucket", "command", "local"]
    assert told[4].split() == ["root/first", "failed,", "not", "ended", "123456/250000", "0.5000", "1234.50"]
    assert told[5].split() == [*day, "12m03s", "0.0001", "3m20s", "home", "lora", "local"]


def test_a_wide_terminal_shows_one_line_a_run() -> None:
    told = shown(run(s3_url="s3://b/models/x/", result_deleted=True), run("root/first"), width=160)

    assert len(told) == 3 and told[0].split()[:4] == ["run", "state", "steps", "loss"] and told[2].startswith("root/first ")
    assert "deleted" in told[1].split() and "bucket" not in told[1]


def test_what_went_wrong_stands_below_its_run_in_one_line() -> None:
    told = shown(run("a/b", state="failed", error="the pod did not boot\nmore", newest=False), run("a/b", attempt=2), width=160)

    assert told[1].startswith("a/b/1 ") and told[3].startswith("a/b ")
    assert told[2] == "    the pod did not boot"


def test_a_result_that_is_owed_to_its_bucket_is_seen_with_the_command_that_pushes_it() -> None:
    told = shown(run("a/b", local_path="/out", owed=True))

    assert "owed" in told[3].split() and told[4].endswith("invoke recover") and all(len(line) <= 80 for line in told)


def test_a_run_that_is_not_over_is_seen_with_the_command_that_follows_it_where_that_works() -> None:
    told = shown(
        run(state="started", over=False), run("b/c", state="up", over=False, here=False, machine="lab", as_of="2026-11-29T00:00:00Z")
    )

    assert told[4] == "    not over; this follows it to its end: invoke attach root/2026-11-29-024025" and len(told[4]) <= 80
    assert told[7] == "    not over as of 2026-11-29T00:00:00Z; driven from lab"


def test_how_many_are_not_shown_is_said() -> None:
    assert shown(run(), more=99_900)[-1].startswith("99,900 older ones: --limit 0 shows all")


def test_without_runs_that_is_said() -> None:
    assert shown() == ["no runs in this repository yet"]


def test_a_filter_that_nothing_fits_is_told_from_a_new_repository(yard: CommandContext) -> None:
    write(yard)

    assert lines(list_runs(yard, RunFilter(user="bo")), 80) == ["no run fits; invoke runs shows all"]


@pytest.fixture
def yard(tmp_path: Path) -> CommandContext:
    """A checkout with nothing in it."""
    return CommandContext(places(tmp_path, {"HOME": str(tmp_path)}), {}, Ui(stream=io.StringIO()))


def write(yard: CommandContext, label: str = "a", **changes: Any) -> RunFolder:
    plain = dict(
        user="ann", label=label, attempt=1, environment="local", recipe="lora", values={"learning_rate": 2e-4}, bundle_sha256="0",
        hours=1.0, created=NOON, cloud="local", token="t",
    )  # fmt: skip
    record = RunRecord(**{**plain, **changes})
    folder = RunFolder(record.id.folder(yard.places.runs))
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save(record)
    return folder


def states(yard: CommandContext, asked: RunFilter | None = None) -> dict[str, str]:
    return {f"{run.run}/{run.attempt}": run.state for run in list_runs(yard, asked or RunFilter()).runs}


def test_records_that_another_version_has_written_or_changed_are_taken_in(yard: CommandContext) -> None:
    folder = write(yard)
    assert states(yard) == {"ann/a/1": "prepared"}

    ended = replace(folder.load(), phase="ended", error="boom", ended=NOON + 90.0)
    folder.save(ended)
    os.utime(folder.path / "run.json", (time.time() + 5, time.time() + 5))
    write(yard, "b", attempt=2)

    assert states(yard) == {"ann/a/1": "failed", "ann/b/2": "prepared"}
    (run, _) = list_runs(yard).runs
    assert (run.duration, run.learning_rate, run.here, run.error) == (90.0, 2e-4, True, "boom")


def test_what_has_not_changed_is_read_from_the_ledger_and_not_from_its_record(
    yard: CommandContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(yard, phase="ended", ended=NOON)
    assert states(yard) == {"ann/a/1": "failed"}

    def load(folder: RunFolder) -> RunRecord:
        raise AssertionError(folder.path)

    monkeypatch.setattr(RunFolder, "load", load)
    assert states(yard) == {"ann/a/1": "failed"}


def test_a_run_that_goes_on_is_shown_with_the_figures_of_this_moment(yard: CommandContext) -> None:
    pod = RunPod(pod_id="p", price_per_hour=3600.0, created_epoch=time.time() - 10)
    folder = write(yard, phase="started", pod=pod, values={})
    list_runs(yard)
    rows = [{"time": NOON + step * 2, "step": step, "total_steps": 10, "loss": 5.0 - step, "lr": 1e-4 / step} for step in (1, 2, 3)]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))

    (run,) = list_runs(yard).runs
    assert (run.steps_done, run.steps_planned, run.loss, run.eta, run.learning_rate) == (3, 10, 2.0, 14.0, 1e-4)
    assert run.cost >= 10.0 and not run.over


def test_figures_are_taken_from_both_ends_of_a_long_training(yard: CommandContext) -> None:
    folder = write(yard, phase="started")
    rows = [{"time": NOON + step, "step": step, "total_steps": 20_000, "loss": 1.0, "more": "x" * 40} for step in range(1, 10_001)]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))

    (run,) = list_runs(yard).runs
    assert run.steps_done == 10_000 and run.eta == pytest.approx(10_000.0)


def test_a_damaged_record_is_listed_whatever_else_is_there(yard: CommandContext) -> None:
    write(yard)
    (write(yard, "broken").path / "run.json").write_text("{")
    for stray in (yard.places.runs / "README", yard.places.runs / "ann" / "notes", yard.places.runs / "ann" / "a" / "2"):
        stray.write_text("a file, and no run's folder")

    assert states(yard) == {"ann/a/1": "prepared", "ann/broken/1": "unreadable record"}
    assert states(yard, RunFilter(state="unreadable")) == {"ann/broken/1": "unreadable record"}
    assert states(yard, RunFilter(stack="local")) == {"ann/a/1": "prepared"}


def test_a_ledger_that_cannot_be_used_hides_no_run(yard: CommandContext) -> None:
    write(yard)
    yard.places.ledger.write_bytes(b"no database at all" * 100)

    assert states(yard) == {"ann/a/1": "prepared"}
    assert "only the runs whose records are here" in str(getattr(yard.ui.console.file, "getvalue", str)())


def test_a_name_means_the_newest_attempt_also_where_a_filter_hides_it(yard: CommandContext) -> None:
    write(yard, phase="ended")
    write(yard, attempt=2)

    (run,) = list_runs(yard, RunFilter(state="failed")).runs
    assert lines(RunListing([run]), 160)[1].startswith("ann/a/1 ")


def test_a_run_of_another_machine_is_listed_as_of_when_it_was_told(yard: CommandContext) -> None:
    write(yard, phase="started")
    list_runs(yard)
    row = replace(yard.ledger().runs()[0], label="far", machine="lab", changed=NOON)
    yard.ledger().put_run(row)

    far = next(run for run in list_runs(yard).runs if run.label == "far")
    assert (far.here, far.machine, far.as_of, far.over) == (False, "lab", format_time(NOON), False)


def test_the_newest_are_shown_and_the_others_counted(yard: CommandContext) -> None:
    for number in range(5):
        write(yard, f"r{number}", created=NOON + number)

    listing = list_runs(yard, asked_for(None, None, None, None, None, 2))
    assert [run.label for run in listing.runs] == ["r3", "r4"] and listing.more == 3
    assert list_runs(yard, asked_for(None, None, None, None, None, 0)).more == 0


def test_what_a_filter_says_is_understood_or_refused() -> None:
    since = asked_for(None, None, None, None, "2h", None).since
    assert since is not None and abs(time.time() - 7200 - since) < 5
    day = asked_for(None, None, None, "live", "2026-11-29", None)
    moment = parse_time("2026-11-29T00:00:00Z")
    assert moment is not None and day.since == moment.timestamp() and day.state == "live"
    typed = [asked_for(None, None, None, None, None, text).limit for text in ("5", "0")]
    assert typed == [5, None]
    for words in (
        (None, None, None, "done", None, None), (None, None, None, None, "soon", None), (None, None, None, None, None, "-1"),
        (None, None, None, None, None, "many"),
    ):  # fmt: skip
        with pytest.raises(UserError):
            asked_for(*words)


def test_one_run_is_told_without_a_look_at_any_other(tmp_path: Path) -> None:
    context, runs = CommandContext(places(tmp_path, {}), {}, Ui(stream=io.StringIO())), places(tmp_path, {}).runs
    for label in ("first", "second"):
        record = RunRecord(
            user="ann", label=label, attempt=1, environment="local", recipe="command", values={}, bundle_sha256="0", hours=1.0,
            created=NOON, phase="started",
        )  # fmt: skip
        RunFolder(record.id.folder(runs)).save(record)
    ledger, metrics = context.ledger(), RunFolder(RunId("ann", "first").folder(runs)).metrics

    for step in (3, 4):  # of a file that grows the newest figures count
        with metrics.open("a") as file:
            file.write(f'{{"step": {step}, "total_steps": 9}}\n')
        known = known_run(context, ledger, RunId("ann", "first"))
        assert known is not None and (known.run, known.steps_done, known.here, known.newest) == ("ann/first", step, True, True)
    assert ledger.rows_of([RunId("ann", "second")]) == []
    assert known_run(context, ledger, RunId("ann", "third")) is None

    RunFolder(RunId("ann", "second").folder(runs)).path.joinpath("run.json").write_text("{")
    damaged = known_run(context, ledger, RunId("ann", "second"))
    assert damaged is not None and damaged.state == "unreadable record"
