"""A program of one's own is heard while it runs: what it prints is shown, until it reports figures."""

from __future__ import annotations

import io

import pytest

from trainyard.runs.records.progress import ProgressLine
from trainyard.runs.ui import Ui


def shown(*pieces: bytes | tuple[str, bytes]) -> list[str]:
    """Feed log pieces (and metrics, as a pair) and return the lines on the screen."""
    screen = io.StringIO()
    with ProgressLine(Ui(stream=screen), lambda: 0.0) as line:
        for piece in pieces:
            if isinstance(piece, tuple):
                line.feed(piece[1])
            else:
                line.log(piece)
    return screen.getvalue().splitlines()


def test_lines_are_shown_whole_wherever_they_were_cut_and_the_last_one_too() -> None:
    assert shown(b"epoch", b" 1\nepoch 2\nlo", b"ss 3") == ["epoch 1", "epoch 2", "loss 3"]


def test_what_steers_a_terminal_is_left_out_and_a_bar_is_its_last_state() -> None:
    log = b" 10%|#   |\r100%|####|\r\n\x1b[31mred\x1b[0m \x1b]0;title\x07[bold]x[/] :smile:\x07\n\xff\xfe end\n"

    assert shown(log) == ["100%|####|", "red [bold]x[/] :smile:", "\ufffd\ufffd end"]


def test_a_program_that_reports_figures_is_seen_by_them() -> None:
    assert shown(b"loading\n", ("metrics", b'{"step": 1, "total_steps": 2}\n'), b"step 1 of 2\n")[0] == "loading"
    assert "step 1 of 2" not in shown(("metrics", b'{"step": 1, "total_steps": 2}\n'), b"step 1 of 2\n")


def test_a_flood_is_cut_and_said_to_be() -> None:
    lines = shown(b"".join(b"line %d\n" % number for number in range(1000)), b"x" * 10_000_000, b"\n")

    assert lines[0] == "           ... 800 lines more, in its log"
    assert lines[1:201] == [f"line {number}" for number in range(800, 1000)]
    assert len(lines[201]) <= 4096 and len(lines) == 202


def test_a_screen_without_a_width_is_printed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert shown(b"epoch 1\n") == ["epoch 1"]
