"""What a run is about is shown without doing it; all lines go into a log, too; -v and -vv show what commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.playbook.__main__ import main

PLAY = """
- name: web
  hosts: all
  tags: web
  tasks:
    - {name: one, shell: "touch TMP/done; seq 12; echo secret", no_log: HIDE}
    - {include_tasks: "{{ x }}.yml", tags: [b, a]}
    - {name: never, debug: {msg: x}, tags: never}
"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "p.yml"
    path.write_text(PLAY.replace("TMP", str(tmp_path)).replace("HIDE", "false"))
    return path


def test_hosts_tasks_and_tags_are_shown_and_nothing_is_done(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(book), "-i", "h1,h2,", "--limit", "h2", "--list-hosts", "--list-tasks", "--skip-tags", "zzz"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "play #1 (all): web", "  hosts (1):", "    h2", "  tasks:", "    one  TAGS: [web]", "    include_tasks  TAGS: [a, b, web]",
    ]  # fmt: skip
    assert main([str(book), "--list-tags", "--tags", "a"]) == 0
    assert capsys.readouterr().out.splitlines() == ["play #1 (all): web", "  TAGS: [a, b, web]"]
    assert main([str(book), "--list-tasks", "--limit", "nobody"]) == 2 and not (tmp_path / "done").exists()


def test_a_log_has_what_was_shown_and_nothing_hidden(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "play.log"
    assert main([str(book), "--tags", "web", "-vv", "--log", str(log), "-e", "x=none"]) == 2
    shown = capsys.readouterr().out
    assert log.read_text() == shown and "stdout: 1\n" in shown
    book.write_text(PLAY.replace("TMP", str(tmp_path)).replace("HIDE", "true"))
    assert main([str(book), "--skip-tags", "a", "-vv", "--log", str(log)]) == 0
    assert "secret" not in log.read_text()[len(shown) :] and "changed: [localhost]" in log.read_text()[len(shown) :]
    assert main([str(book), "--log", str(tmp_path / "no" / "log")]) == 2
    assert main([str(book), "--skip-tags", "a", "--log", "/dev/full"]) == 0
    assert "the log cannot be written any more" in capsys.readouterr().err


def test_one_v_shows_the_last_lines(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(book), "--skip-tags", "a", "-v"]) == 0
    shown = capsys.readouterr().out
    assert "stdout: 12" in shown and "stdout: 1\n" not in shown


def test_what_nobody_wrote_is_not_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yml"
    path.write_text("- {name: two parts, hosts: all, pre_tasks: [{name: a, ping: }], tasks: [{name: b, ping: , tags: c}]}\n")
    assert main([str(path), "--list-tasks"]) == 0
    assert capsys.readouterr().out.splitlines() == ["play #1 (all): two parts", "  tasks:", "    a", "    b  TAGS: [c]"]
    assert main([str(path), "--list-tags"]) == 0 and "TAGS: [c]\n" in capsys.readouterr().out
