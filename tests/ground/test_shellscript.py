"""Shell programs are files; what is sent of them is one piece that any POSIX sh reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import trainyard
from trainyard.shellscript import load

ROOT = Path(trainyard.__file__).parent
PROGRAMS = sorted(ROOT.rglob("shell/*.sh"))
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def package(program: Path) -> str:
    return ".".join(program.parent.parent.relative_to(ROOT.parent).parts)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_arrives_as_one_piece_that_every_shell_reads(program: Path) -> None:
    text = load(package(program), program.stem)

    assert "\n. " not in "\n" + text
    assert not any(line.lstrip().startswith("#") for line in text.splitlines())
    for shell in SHELLS:
        words = [shell, "sh"] if shell == "busybox" else [shell]
        done = subprocess.run([*words, "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), shell


def test_a_program_that_is_not_given_a_value_ends_and_names_it() -> None:
    done = subprocess.run(["sh"], input=load("trainyard.remote", "job_status"), capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "job" in done.stderr


def test_the_frame_is_one_line_that_other_shells_read_as_sh_does() -> None:
    line = " ".join(load("trainyard.remote", "frame").splitlines())

    assert not set("'!\n") & set(line)
    assert "\\ " not in line
