"""Where a host has dropped out, the last line is a command that goes on there, and works as it is printed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from trainyard.playbook.__main__ import main

PLAY = """
- hosts: all
  tasks:
    - {name: first, shell: "echo first >>TMP/done"}
    - {name: same, shell: "true"}
    - block:
        - {name: "it's here", shell: "[ -e TMP/ready ] || [ {{ inventory_hostname }} != b ] && echo {{ said }} >>TMP/done"}
    - {name: last, shell: "echo last >>TMP/done"}
    - {name: same, shell: "[ -e TMP/ready ] || exit {{ late | default(0) }}"}
"""


def said(capsys: pytest.CaptureFixture[str], start: str) -> list[str]:
    """Return the words of the command in the last line."""
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(start)
    return shlex.split(line.removeprefix(start))


def test_the_command_that_is_printed_goes_on_with_the_lost_hosts_and_the_same_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "a play.yml"
    book.write_text(PLAY.replace("TMP", str(tmp_path)))
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: {hosts: {a: {}, b: {}}, vars: {ansible_connection: local}}")
    assert main([str(book), "-i", str(hosts), "-e", "said='two words'", "--diff", "--forks", "1"]) == 2
    words = said(capsys, "to go on at that task: python -m trainyard.playbook ")
    assert {"--start-at-task=it's here", "--limit=b", "--diff", "--forks=1"} <= set(words)
    (tmp_path / "ready").touch()
    (tmp_path / "done").unlink()
    assert main(words) == 0 and capsys.readouterr().err == ""
    assert (tmp_path / "done").read_text().splitlines() == ["two words", "last"]


def test_a_task_whose_name_stands_twice_is_not_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yml").write_text(PLAY.replace("TMP", str(tmp_path)))
    assert main([str(tmp_path / "p.yml"), "-e", "said=x", "-e", "late=3"]) == 2
    words = said(capsys, "to run it once more: python -m trainyard.playbook ")
    assert not [word for word in words if word.startswith(("--start-at-task", "--limit"))]
    (tmp_path / "ready").touch()
    assert main(words) == 0


def test_a_playbook_called_from_the_folder_above_finds_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("books").mkdir()
    Path("books/source").write_text("beside")
    Path("books/p.yml").write_text(f"- hosts: all\n  tasks:\n    - copy: {{src: source, dest: {tmp_path}/there}}\n")
    assert main(["books/p.yml"]) == 0
    assert Path("there").read_text() == "beside"


def test_hosts_whose_turn_never_came_are_in_the_command_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = tmp_path / "p.yml"
    book.write_text(
        "- {hosts: [a, b, c], serial: 1, tasks: [{name: before, shell: 'echo {{ inventory_hostname }} >>TMP/done'},"
        " {name: here, shell: '[ {{ inventory_hostname }} != b ] || [ -e TMP/ready ]'}]}\n"
        "- {hosts: d, tasks: [{name: later, shell: 'echo d >>TMP/done'}]}\n".replace("TMP", str(tmp_path))
    )
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: {hosts: {a: {}, b: {}, c: {}, d: {}}, vars: {ansible_connection: local}}")
    assert main([str(book), "-i", str(hosts)]) == 2
    words = said(capsys, "to run it once more: python -m trainyard.playbook ")
    (tmp_path / "ready").touch()
    assert main(words) == 0 and (tmp_path / "done").read_text().split() == ["a", "b", "b", "c", "d"]
