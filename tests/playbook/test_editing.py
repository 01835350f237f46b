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


INI = "top = 1\n[one]\na = 1\n;b = 2\n\n# end of one\n[two]\na=3\na=4\n"


@pytest.mark.parametrize(
    ("args", "after"),
    [
        ("section: one, option: a, value: '1'", INI),
        ("section: one, option: a, value: '5'", INI.replace("a = 1", "a = 5")),
        ("section: one, option: b, value: x", INI.replace(";b = 2", "b = x")),
        ("section: one, option: c, value: x", INI.replace("a = 1\n", "a = 1\nc = x\n")),
        ("section: one, option: c, value: x, no_extra_spaces: true", INI.replace("a = 1\n", "a = 1\nc=x\n")),
        ("section: two, option: a, value: '5'", INI.replace("a=3\na=4", "a = 5")),
        ("section: three, option: a, value: x", INI + "[three]\na = x\n"),
        ("section: three", INI + "[three]\n"),
        ("option: top, value: '2'", INI.replace("top = 1", "top = 2")),
        ("section: one, option: flag, allow_no_value: true", INI.replace("a = 1\n", "a = 1\nflag\n")),
        ("section: two, option: a, state: absent", INI.replace("a=3\na=4\n", "")),
        ("section: two, state: absent", INI.partition("[two]")[0]),
        ("section: none, state: absent", INI),
    ],
)
def test_a_setting_of_a_section(run: Run, tmp_path: Path, args: str, after: str) -> None:
    (tmp_path / "f.ini").write_text(INI)
    text = f"- community.general.ini_file: {{path: '{{{{ tmp }}}}/f.ini', {args}}}"
    assert run(text, check=True).report.exit_code == 0 and (tmp_path / "f.ini").read_text() == INI
    first, again = run(text).report.tallies["pod"], run(text).report.tallies["pod"]
    assert (tmp_path / "f.ini").read_text() == after and (first.changed, again.changed) == (int(after != INI), 0)


def test_a_setting_of_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    text = "- ini_file: {path: '{{ tmp }}/new.ini', section: s, option: o, value: v, mode: '0600', create: MADE}"
    assert "there is no file" in run(text.replace("MADE", "false")).report.reason()
    assert not run(text.replace("MADE", "true")).report.reason() and (tmp_path / "new.ini").read_text() == "[s]\no = v\n"
    assert "needs 'value'" in run("- ini_file: {path: x, section: s, option: o}").report.reason()
    assert "needs 'section', 'option'" in run("- ini_file: {path: x}").report.reason()
