"""The list of runs is read at 80 columns, in a pipe and in ASCII: names and words whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainyard.runs.verbs.listing import RunRow, lines


def row(run: str = "root/2026-11-29-024025", **more: Any) -> RunRow:
    usual = RunRow(run=run, attempt=1, stack="local", recipe="command", state="succeeded", steps_done=25, steps_planned=25, loss=0.5)
    return replace(usual, **more)


def test_names_and_verdicts_of_runs_are_whole_at_80_columns() -> None:
    told = lines(
        [
            row(s3_url="s3://b/models/x/"),
            row("root/first", recipe="lora", state="cancelled", local_path="/out", steps_done=0, steps_planned=0),
        ]
    )

    assert all(len(line) <= 80 and line.isascii() for line in told)
    assert told[1].split() == ["root/2026-11-29-024025", "succeeded", "25/25", "0.5000", "0.00", "bucket", "command", "local"]
    assert told[2].split() == ["root/first", "cancelled", "0.5000", "0.00", "home", "lora", "local"]


def test_what_went_wrong_stands_below_its_run_in_one_line() -> None:
    told = lines([row("a/b", state="failed", error="the pod did not boot\nmore"), row("a/b", attempt=2)])

    assert told[1].startswith("a/b/1 ") and told[3].startswith("a/b ")
    assert told[2] == "    the pod did not boot"


def test_a_result_that_is_owed_to_its_bucket_is_seen_with_the_command_that_pushes_it() -> None:
    told = lines([row("a/b", local_path="/out", owed=True)])

    assert told[1].split()[5] == "owed" and told[2].endswith("invoke recover") and all(len(line) <= 80 for line in told)


def test_a_run_that_is_not_over_is_seen_with_the_command_that_follows_it() -> None:
    told = lines([row(state="started", over=False)])

    assert told[2] == "    not over; this follows it to its end: invoke attach root/2026-11-29-024025" and len(told[2]) <= 80


def test_without_runs_that_is_said() -> None:
    assert lines([]) == ["no runs in this repository yet"]
