"""The plugin's launcher finds a Python with Trainyard wherever the repository and Trainyard are, and never itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "infra" / "provider" / "pulumi-resource-trainyard"


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    target = tmp_path / "a répository" / "infra" / "provider" / LAUNCHER.name
    target.parent.mkdir(parents=True)
    shutil.copy(LAUNCHER, target)
    return target


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/sh\necho "$0 $*"\n')
    path.chmod(0o755)
    return path


def start(launcher: Path, *path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    search = ":".join(map(str, [*path, "/usr/bin", "/bin"]))
    return subprocess.run(
        [launcher, "127.0.0.1:1"], env={"PATH": search, **env}, cwd="/", capture_output=True, text=True, check=False, timeout=30
    )


def test_the_python_that_trainyard_names_comes_first(launcher: Path, tmp_path: Path) -> None:
    named = program(tmp_path / "pipx" / "python")
    program(launcher.parents[2] / ".venv" / "bin" / "python")
    program(launcher.parents[2] / ".venv" / "bin" / LAUNCHER.name)

    assert start(launcher, TRAINYARD_PROVIDER_PYTHON=str(named)).stdout == f"{named} -m trainyard.provider.main 127.0.0.1:1\n"


def test_then_that_of_the_repository_when_trainyard_is_in_it(launcher: Path, tmp_path: Path) -> None:
    own = program(launcher.parents[2] / ".venv" / "bin" / "python")
    installed = program(tmp_path / "bin" / LAUNCHER.name)
    assert start(launcher, installed.parent).stdout == f"{installed} 127.0.0.1:1\n", "a .venv without Trainyard was taken"

    program(launcher.parents[2] / ".venv" / "bin" / LAUNCHER.name)
    gone = str(tmp_path / "gone")
    assert start(launcher, installed.parent, TRAINYARD_PROVIDER_PYTHON=gone).stdout == f"{own} -m trainyard.provider.main 127.0.0.1:1\n"


def test_with_none_it_says_what_to_do_and_does_not_start_itself(launcher: Path) -> None:
    done = start(launcher, launcher.parent)

    assert (done.returncode, done.stdout) == (1, "")
    assert 'pipx install trainyard), then: eval "$(trainyard env)"' in done.stderr
