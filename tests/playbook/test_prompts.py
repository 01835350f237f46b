"""vars_prompt asks once, hides what is private, and refuses with the way out where nobody can answer."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.playbook.conftest import Run
from trainyard import playbook
from trainyard.errors import UserError
from trainyard.playbook.__main__ import main
from trainyard.playbook.prompts import ask

PLAY = """- hosts: localhost
  vars_prompt:
    - {name: word, prompt: Which word}
    - {name: count, prompt: How many, private: no, default: 3}
    - {name: twice, private: false, confirm: true, default: "{{ 'a' + 'b' }}"}
  tasks:
    - debug: {msg: "{{ word | length }} {{ word }} {{ count }} {{ twice }}"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "play.yml"
    path.write_text(PLAY)
    return path


def test_each_variable_is_asked_for_once_and_not_what_the_command_line_says(path: Path) -> None:
    plays = playbook.load(path).plays
    shown: list[tuple[str, bool]] = []
    typed = iter(["secret", "5", "x", "y", "", ""])

    def read(text: str, private: bool) -> str:
        shown.append((text, private))
        return next(typed)

    assert ask([*plays, *plays], {}, read) == {"word": "secret", "count": "5", "twice": "ab"}
    assert shown == [
        ("Which word: ", True), ("How many [3]: ", False), ("twice [ab]: ", False), ("confirm twice [ab]: ", False),
        ("twice (the two differ, once more): ", False), ("confirm twice (the two differ, once more): ", False),
    ]  # fmt: skip
    assert ask(plays, {"word": 1, "count": 2, "twice": 3}, read) == {}


def test_without_a_terminal_a_default_counts_and_the_rest_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    plays = playbook.load(path).plays
    assert ask(plays, {"word": "x"}) == {"count": "3", "twice": "ab"}
    with pytest.raises(UserError, match="'word' is asked for, and there is no terminal") as caught:
        ask(plays, {})
    assert caught.value.hint == "Say it: -e word=VALUE." and str(caught.value.where) == f"{path}:3:7"


def test_a_private_answer_at_a_terminal_is_shown_nowhere(path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trainyard.playbook", str(path)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True):
        os.close(theirs)
        seen = b""
        for question, answer in (
            (b"Which word: ", b"hf_token\n"),
            (b"How many [3]: ", b"\n"),
            (b"twice [ab]: ", b"c\n"),
            (b"[ab]: ", b"c\n"),
        ):
            while question not in seen:
                seen += os.read(ours, 4096)
            seen = b""
            os.write(ours, answer)
        while b"ok=1" not in seen:
            seen += os.read(ours, 4096)
        os.close(ours)
    assert b"8 *** 3 c" in seen and b"hf_token" not in seen


def test_a_play_says_as_whom_and_where_to_log_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "play.yml"
    path.write_text("- hosts: all\n  remote_user: nobody-here\n  port: 1\n  tasks: [{ping: }]\n")
    assert main([str(path), "-i", "127.0.0.1,"]) == 5
    assert "nobody-here@127.0.0.1:1" in capsys.readouterr().out


def test_an_answer_may_name_the_hosts(run: Run, tmp_path: Path) -> None:
    run("""
- hosts: "{{ target }}"
  vars_prompt: [{name: target, prompt: Where, default: pod}]
  tasks:
    - copy: {content: "{{ target }}", dest: "{{ tmp }}/out"}
    """)
    assert (tmp_path / "out").read_text() == "pod"
