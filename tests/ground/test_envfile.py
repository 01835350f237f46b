"""What is written into .env is read from it; every other line stays, and nobody else can read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.envfile import changed_env, parse_env, read_env_file, write_env_file
from trainyard.errors import UserError

VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
LINES = st.sampled_from(["# a remark", "", "A=1", "export A='x y' # kept", "B=2 # of B", 'C="d\\"e"', "A=2", "  # A=no"])


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(LINES, max_size=8), value=VALUES, end=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_what_is_written_is_read_and_nothing_else_is_changed(lines: list[str], value: str, end: str, last: bool) -> None:
    text = end.join(lines) + (end if last else "")
    end = end if end in text else "\n"
    new = changed_env(text, {"A": value, "N": "n"})
    assert parse_env(new, ".env") == {**parse_env(text, ".env"), "A": value, "N": "n"}
    others = [line for line in lines if not line.removeprefix("export ").startswith("A=")]
    assert [line for line in new.split(end) if line and not line.removeprefix("export ").startswith(("A=", "N="))] == [
        *filter(None, others)
    ]
    assert sum(line.removeprefix("export ").startswith("A=") for line in new.split(end)) == 1


def test_a_line_keeps_its_remark_and_its_export() -> None:
    assert changed_env("export A='x y' # kept\nB=1\n", {"A": "z", "C": "#"}) == "export A=z # kept\nB=1\nC='#'\n"


def test_only_the_owner_can_read_it_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    real = tmp_path / "kept" / "keys"
    real.write_text("# mine\nA=1\n")
    real.chmod(0o644)
    (tmp_path / ".env").symlink_to(real)
    write_env_file(tmp_path / ".env", {"A": "2"})
    assert (tmp_path / ".env").is_symlink() and real.read_text() == "# mine\nA=2\n"
    assert real.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "kept") == ["keys"]


def test_what_cannot_be_kept_there_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\n")
    with pytest.raises(UserError, match="several lines"):
        write_env_file(path, {"A": "x\ny"})
    path.write_text("A=1\nno line\n")
    with pytest.raises(UserError, match="expected NAME=value"):
        write_env_file(path, {"A": "2"})
    assert path.read_text() == "A=1\nno line\n"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is no file"):
        write_env_file(tmp_path / "pipe", {"A": "2"})
    assert read_env_file(tmp_path / "none") == {}
