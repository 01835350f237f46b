"""`trainyard upgrade` shows what a newer version would write, and replaces only what nobody has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard import __version__
from trainyard.cli import init, scaffold, upgrade
from trainyard.cli.scaffold import Choices
from trainyard.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    init.write(init.plan(tmp_path, Choices(("runpod",))))
    return tmp_path


@pytest.fixture
def newer(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, and a version of Trainyard that writes three files otherwise and one more."""
    old = scaffold.texts

    def texts(chosen: Choices) -> dict[str, str]:
        found = old(chosen)
        for path in ("tasks.py", "configs/example.yaml", "playbooks/hello.yml"):
            found[path] += "# newer\n"
        return {"more/file.txt": "more\n", **found}

    monkeypatch.setattr(scaffold, "texts", texts)
    monkeypatch.setattr(upgrade, "__version__", "9.9.9")
    return root


def test_the_same_version_has_nothing_to_change(root: Path) -> None:
    found = upgrade.compare(root)

    assert list(upgrade.diff(found)) == []
    assert list(upgrade.report_lines(found, None)) == [f"nothing to change (init wrote {__version__}, this is {__version__})"]


def test_of_what_nobody_edits_a_lost_file_is_written_again_and_a_damaged_one_shown(root: Path) -> None:
    (root / scaffold.SCHEMA).unlink()

    found = upgrade.compare(root)
    assert f"+++ b/{scaffold.SCHEMA}" in list(upgrade.diff(found)) and upgrade.apply(found) == [scaffold.SCHEMA]

    (root / scaffold.SCHEMA).write_text("{")
    (root / "configs/example.yaml").write_text("steps: 7\n")
    found = upgrade.compare(root)
    assert [change.path for change in found.changes] == [scaffold.SCHEMA] and f"--- a/{scaffold.SCHEMA}" in list(upgrade.diff(found))
    assert upgrade.apply(found) == []
    assert "to have Trainyard's, remove it first" in "\n".join(upgrade.report_lines(found, []))


def test_what_is_new_is_shown_and_written_where_nobody_has_changed_it(newer: Path) -> None:
    (newer / "configs/example.yaml").write_text("steps: 7\n")
    (newer / "playbooks/hello.yml").unlink()

    found = upgrade.compare(newer)
    shown = "\n".join(upgrade.diff(found))
    assert "--- a/tasks.py\n+++ b/tasks.py\n" in shown and "+# newer" in shown and "--- /dev/null\n+++ b/more/file.txt\n" in shown
    assert not (newer / "more").exists()

    written = upgrade.apply(found)

    assert sorted(written) == ["more/file.txt", "tasks.py"]
    assert (newer / "tasks.py").read_text().endswith("# newer\n") and (newer / "more/file.txt").read_text() == "more\n"
    assert (newer / "configs/example.yaml").read_text() == "steps: 7\n" and not (newer / "playbooks/hello.yml").exists()
    said = list(upgrade.report_lines(found, written))
    assert "left       configs/example.yaml: it was changed here; in the diff above + is new, - may be yours" in said
    assert "left out   playbooks/hello.yml: it was removed here" in said


def test_what_was_taken_over_by_hand_is_settled(newer: Path) -> None:
    upgrade.apply(upgrade.compare(newer))
    (newer / "configs/example.yaml").write_text("steps: 7\n")
    assert upgrade.compare(newer).changes == ()

    record = scaffold.read_record(newer)
    assert record is not None and record.version == "9.9.9"


def test_a_file_that_was_changed_to_what_the_newer_version_writes_is_settled_too(newer: Path) -> None:
    path = newer / "tasks.py"
    path.write_bytes((path.read_text() + "# newer\n").replace("\n", "\r\n").encode())

    found = upgrade.compare(newer)

    assert "tasks.py" not in [change.path for change in found.changes]
    upgrade.apply(found)
    assert path.read_bytes().endswith(b"# newer\r\n")


def test_the_launcher_stays_a_program_and_lines_that_gitignore_lacks_are_shown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / ".gitignore").write_text("out/\n")
    old = scaffold.texts
    monkeypatch.setattr(scaffold, "texts", lambda chosen: {**old(chosen), scaffold.LAUNCHER: "#!/bin/sh\n"})

    found = upgrade.compare(root)
    assert "+++ b/.gitignore" in "\n".join(upgrade.diff(found))
    assert upgrade.apply(found) == [scaffold.LAUNCHER, ".gitignore"]
    assert os.access(root / scaffold.LAUNCHER, os.X_OK)
    assert (root / ".gitignore").read_text().splitlines()[:2] == ["out/", ".env"]
    assert upgrade.compare(root).changes == () and upgrade.compare(root).lines == ()


def test_where_no_init_was_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no \.trainyard\.json") as left:
        upgrade.compare(tmp_path)
    assert "trainyard init" in str(left.value.hint)


def test_the_note_is_short_and_one_of_an_earlier_version_that_holds_whole_texts_is_read(root: Path) -> None:
    note = root / ".trainyard.json"
    said = json.loads(note.read_text())
    assert len(note.read_bytes()) < 3000 and max(map(len, note.read_text().splitlines())) < 140
    kept = scaffold.read_record(root)

    said["files"] = {path: (root / path).read_text() for path in said["files"]}
    note.write_text(json.dumps(said, indent=1))

    assert scaffold.read_record(root) == kept


@pytest.mark.parametrize(("old", "new", "where", "says"), [
    ('"runpod"', '"runpid"', ":4:", "'runpid' is nothing that this version of Trainyard has files for (did you mean 'runpod'?)"),
    ('"ci": null', '"ci": "gitlab"', ":7:", "'gitlab' is nothing"),
    ('"files": {', '"files": [', "", "not valid YAML"),
    ('"files"', '"file"', "", ""),
])  # fmt: skip
def test_a_note_that_names_what_is_not_there_is_told_at_its_line_with_a_way_out(
    root: Path, old: str, new: str, where: str, says: str
) -> None:
    note = root / ".trainyard.json"
    note.write_text(note.read_text().replace(old, new, 1))

    with pytest.raises(UserError) as left:
        upgrade.compare(root)
    assert str(left.value).startswith(f".trainyard.json{where}") and says in left.value.message
    assert "git checkout .trainyard.json" in str(left.value.hint)


def test_the_verb_prints_the_diff_alone_on_stdout(root: Path) -> None:
    text = (root / "tasks.py").read_text()
    older = text.replace("ns = verbs()", "ns = verbs")
    note = root / ".trainyard.json"
    note.write_text(note.read_text().replace(scaffold.digest(text), scaffold.digest(older)))
    (root / "tasks.py").write_text(older)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "trainyard", "upgrade", *words], cwd=root, capture_output=True, text=True, check=False)

    shown = run()
    assert shown.returncode == 0 and shown.stdout.startswith("--- a/tasks.py\n+++ b/tasks.py\n@@")
    assert "trainyard upgrade --write" in shown.stderr
    assert run("--write").stderr == "wrote      tasks.py\n"
    assert "ns = verbs()\n" in (root / "tasks.py").read_text()
    assert run().stdout == ""
