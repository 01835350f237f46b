"""synchronize: what is different travels, what is left out stays, what is only there goes when that is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.playbook.conftest import Run, Shown
from trainyard.playbook import Host
from trainyard.remote.excludes import excluding
from trainyard.remote.transport import SshTransport


def tree(top: Path) -> dict[str, str]:
    found = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        found[name] = f"-> {os.readlink(path)}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "from"
    for name, text in {"a": "1", "sub/b": "2", "sub/c.log": "3", ".git/x": "4", "cache/y": "5", "run.sh": "6"}.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (top / "run.sh").chmod(0o750)
    (top / "link").symlink_to("a")
    return top


def changed(shown: Shown) -> int:
    assert shown.report.reason() == ""
    return shown.report.tallies["pod"].changed


PUSH = """
    - synchronize:
        src: "{{ tmp }}/from/"
        dest: "{{ tmp }}/to"
        delete: true
        excludes: [.git]
        rsync_opts: ["--exclude=*.log", "--exclude=/cache"]
    """


def test_a_folder_is_made_the_same_once_and_what_is_left_out_stays_there_too(
    run: Run, ssh: SshTransport, source: Path, tmp_path: Path
) -> None:
    hosts = {"pod": Host(ssh)}
    to = tmp_path / "to"
    (to / "old/deep").mkdir(parents=True)
    (to / "old/deep/file").write_text("x")
    (to / ".git").mkdir()
    (to / ".git/kept").write_text("kept")
    assert changed(run(PUSH, hosts=hosts, check=True)) == 1 and (to / "old/deep/file").exists() and not (to / "a").exists()
    assert changed(run(PUSH, hosts=hosts)) == 1
    expected = {".git": "/", ".git/kept": "kept", "a": "1", "link": "-> a", "run.sh": "6", "sub": "/", "sub/b": "2"}
    assert tree(to) == expected and (to / "run.sh").stat().st_mode & 0o777 == 0o750
    assert changed(run(PUSH, hosts=hosts)) == 0 and changed(run(PUSH, hosts=hosts, check=True)) == 0
    (to / "a").write_text("other")
    assert changed(run(PUSH, hosts=hosts)) == 1 and tree(to) == expected


def test_a_pull_brings_a_folder_or_a_file_and_takes_away_what_is_only_here(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/only").write_text("x")
    text = """
        - synchronize: {mode: pull, src: "{{ tmp }}/from/", dest: "{{ tmp }}/here", delete: true, excludes: "cache,.git"}
        - synchronize: {mode: pull, src: "{{ tmp }}/from/sub", dest: "{{ tmp }}/whole"}
        - synchronize: {mode: pull, src: "{{ tmp }}/from/a", dest: "{{ tmp }}/whole"}
        """
    assert changed(run(text)) == 3 and changed(run(text)) == 0
    assert set(tree(tmp_path / "here")) == {"a", "run.sh", "sub", "sub/b", "sub/c.log"}
    assert set(tree(tmp_path / "whole")) == {"sub", "sub/b", "sub/c.log", "a"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("rsync_opts: [--partial]", "'--partial' of rsync is not here"),
        ("archive: false", "without 'archive' and 'recursive'"),
        ("mode: pull, delete: true", "needs a folder with a slash"),
    ],
)
def test_what_is_not_there_is_refused_by_name(run: Run, arguments: str, words: str) -> None:
    assert words in run(f"- synchronize: {{src: /a, dest: /b, {arguments}}}").report.reason()


@pytest.mark.parametrize(
    ("pattern", "out", "stays"),
    [
        ("*.pyc", ["a.pyc", "x/a.pyc"], ["a.py", "pyc"]),
        ("/build", ["build", "build/x"], ["x/build"]),
        ("node_modules/", ["node_modules/a", "x/node_modules"], ["node_module"]),
        ("a/*.txt", ["a/b.txt", "x/a/b.txt"], ["a/b/c.txt", "b.txt"]),
        ("/a/**/z", ["a/b/c/z"], ["z", "b/a/c/z"]),
        ("[!a].x", ["b.x"], ["a.x", "bb.x"]),
        ("f?.x", ["f1.x"], ["f/.x", "f12.x"]),
        ("a+b(1)", ["a+b(1)"], ["aab1"]),
    ],
)
def test_patterns_mean_what_they_mean_to_rsync(pattern: str, out: list[str], stays: list[str]) -> None:
    left_out = excluding([pattern])
    assert [path for path in [*out, *stays] if left_out(path)] == out
