"""Files whose text is changed: what Ansible's own answers do not show (tests/cases/ok/file-*.yml)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.playbook.conftest import Run


def test_a_file_keeps_its_owner_its_mode_and_bytes_that_are_no_text(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a=1\r\n\xff\xfe\x00\nb=2")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    shown = run(
        "- lineinfile: {path: '{{ tmp }}/f', regexp: '^a=', line: a=2}\n- replace: {path: '{{ tmp }}/f', regexp: b=2, replace: b=3}"
    )
    assert shown.report.reason() == "" and path.read_bytes() == b"a=2\n\xff\xfe\x00\nb=3"
    assert path.stat().st_mode & 0o777 == 0o640 and (os.geteuid() or (path.stat().st_uid, path.stat().st_gid) == (12, 34))


def test_a_link_stays_one_and_what_it_leads_to_is_changed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x\n")
    (tmp_path / "link").symlink_to("real")
    assert run("- lineinfile: {path: '{{ tmp }}/link', line: y}").report.reason() == ""
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "x\ny\n"


def test_check_mode_shows_the_difference_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x\n")
    shown = run("- blockinfile: {path: '{{ tmp }}/f', block: y}", check=True, diff=True)
    assert "+y" in shown.text and shown.report.tallies["pod"].changed == 1 and (tmp_path / "f").read_text() == "x\n"


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("lineinfile: {path: /x, regexp: '(', line: a}", "unterminated"),
        ("lineinfile: {path: /x, line: a, insertafter: a, insertbefore: b}", "either 'insertafter' or 'insertbefore'"),
        ("lineinfile: {path: /x, backrefs: true, line: a}", "'backrefs' goes with 'regexp'"),
        ("lineinfile: {path: /x, state: absent}", "needs 'line'"),
        ("lineinfile: {path: '{{ tmp }}', line: a}", "is not a file"),
        ("replace: {path: /x, regexp: a, encoding: nonsense}", "no encoding"),
        ("replace: {path: '{{ tmp }}/play.yml', regexp: a, replace: '\\9'}", "invalid group reference"),
        ("copy: {content: a, dest: '{{ tmp }}/fifo'}", "neither a file nor a folder"),
        ("lineinfile: {path: '{{ tmp }}/fifo', line: a}", "is not a file"),
        ("copy: {content: a, dest: '{{ tmp }}/f', owner: nobody-of-this-name}", "nobody-of-this-name"),
        ("copy: {content: a, dest: '{{ tmp }}/f', validate: 'false %s'}", "not valid"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_leaves_nothing(run: Run, tmp_path: Path, task: str, words: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    shown = run(f"- {task}")
    assert words in shown.report.reason() and sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "play.yml"]


def test_names_of_any_bytes_are_placed_and_edited(run: Run, tmp_path: Path) -> None:
    names = ["a\nb", "-n", "!x", "sp ace", os.fsdecode(b"\xff")]
    text = """
        - copy: {content: "x\\n", dest: "{{ item }}"}
          loop: "{{ names }}"
        - lineinfile: {path: "{{ item }}", line: y}
          loop: "{{ names }}"
        - file: {path: "{{ item }}", mode: u+x}
          loop: "{{ names }}"
        """
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        shown = run(text, extra={"names": names})
    finally:
        os.chdir(before)
    assert shown.report.reason() == "" and {(tmp_path / name).read_text() for name in names} == {"x\ny\n"}
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names} == {0o744}


@pytest.mark.skipif(not Path("/dev/full").exists() or shutil.which("prlimit") is None, reason="no way to fill a disk here")
def test_a_file_that_does_not_fit_leaves_the_old_one_whole(run: Run, tmp_path: Path) -> None:
    from trainyard.playbook import Host
    from trainyard.remote.local import CommandTransport

    (tmp_path / "f").write_text("old")
    (tmp_path / "big").write_bytes(os.urandom(1_500_000))
    small = Host(CommandTransport(["prlimit", "--fsize=4096", "sh", "-c"], "small"))
    for source in ("content: \"{{ 'x' * 9000 }}\"", "src: big"):
        shown = run(f"- copy: {{{source}, dest: '{{{{ tmp }}}}/f'}}", hosts={"pod": small})
        assert shown.report.exit_code == 2 and (tmp_path / "f").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "f", "play.yml"]


def test_a_big_file_may_have_as_long_a_name_as_there_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(1_500_000))
    shown = run("- copy: {src: big, dest: \"{{ tmp }}/{{ 'n' * 255 }}\"}")
    assert shown.report.reason() == "" and (tmp_path / ("n" * 255)).read_bytes() == (tmp_path / "big").read_bytes()
    assert len(list(tmp_path.iterdir())) == 3
