"""The recording in the README: a picture that is whole, that loads nothing, and in which no machine can be known."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests import recording, shown
from tests.pages import record


def test_it_shows_a_run_from_the_command_to_the_proven_result() -> None:
    command, *lines = recording.lines()

    assert command == "$ invoke " + " ".join(record.COMMAND)
    stages = recording.stages(lines)
    assert {"recipe", "estimate", "rented", "train", "up: lease and pod", "result: to the bucket", "destroy: the run's stack"} <= stages
    assert any("writing manifest and _SUCCESS" in line for line in lines)
    assert any(re.match(r"run you/\S+ succeeded", line) for line in lines)


def test_the_commands_in_it_work() -> None:
    verbs: Any = shown.tasks().ns
    lines = [line for line in recording.lines() if re.match(r"(\$ )?invoke |AWS_", line)]
    commands = list(shown.commands("\n".join(lines), "train.svg", message=False, code=True))

    assert len(commands) >= 2
    assert [shown.problem(command, verbs) for command in commands] == [None] * len(commands)


def test_nothing_in_it_names_a_machine_or_another_host() -> None:
    text = recording.PICTURE.read_text(encoding="utf-8")

    assert re.findall(r"/root\b|/home/|/tmp/|/work/|/Users/", text) == []
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg|127\.0\.0\.1)[^\s\"<]+", text) == []
    assert re.findall(r"<(?:image|script|foreignObject)|@import|@font-face|url\(", text) == []


def test_long_pauses_are_shortened_and_nothing_else() -> None:
    screen = [record.Row([(0.5, "one")]), record.Row([(0.6, "step 1"), (9.6, "step 2")]), record.Row([(9.7, "end")])]

    times = [at for row in record.shortened(screen) for at, _ in row.states]

    assert times == pytest.approx([0.5, 0.6, 0.6 + record.PAUSE, 0.7 + record.PAUSE])


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([(0.0, "one\r\n"), (1.0, "two\r\n")], [[(0.0, "one")], [(1.0, "two")]]),
        ([(0.0, "be"), (0.1, "gun\r\n")], [[(0.0, "begun")]]),
        ([(0.0, "step 1"), (1.0, "\r\x1b[2Kstep 2"), (2.0, "\r\x1b[2Kstep 2"), (3.0, "\r\n")], [[(0.0, "step 1"), (1.0, "step 2")]]),
        ([(0.0, "\x1b[?25lbar ━╸"), (1.0, "\r\x1b[2Kbar ━━\x1b[?25h\r\n")], [[(0.0, "bar ━━")]]),
    ],
)
def test_a_line_keeps_what_it_said_and_when(chunks: list[tuple[float, str]], lines: list[list[tuple[float, str]]]) -> None:
    assert [row.states for row in record.rows(chunks)] == lines
