"""As a new user has it: the wheel in an environment of its own, an empty home, a repository with its own training script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainyard import __version__
from trainyard.clouds.local import LocalCloud
from trainyard.config import places
from trainyard.setup import s3server
from trainyard.stacks import installed
from trainyard.storage import local

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """#!/usr/bin/env python3
import json, os
from pathlib import Path
out = Path(os.environ["OUTPUT_DIR"])
(out / "model").mkdir(exist_ok=True)
(out / "model" / "weights.json").write_text(json.dumps({"w": 42}))
print("trained by a script of the user's own")
"""


@dataclass(frozen=True)
class User:
    """A person with nothing but the installed package."""

    base: Path

    @property
    def repository(self) -> Path:
        """Where the person's own code is."""
        return self.base / "own"

    @property
    def bin(self) -> Path:
        """Where pipx would put the commands."""
        return self.base / "env" / "bin"

    @property
    def env(self) -> dict[str, str]:
        """No variable of ours, nothing of this checkout on PATH."""
        kept = {name: os.environ[name] for name in ("PULUMI_HOME", "SSL_CERT_FILE") if name in os.environ}
        own = {"HOME": str(self.base), "PATH": f"{self.bin}:/usr/bin:/bin", "TRAINYARD_USER": "new", "TRAINYARD_ENGINE": "builtin"}
        return {**kept, **own, "TRAINYARD_VERSITYGW": str(s3server.find()), "COLUMNS": "200", "LC_ALL": "C.UTF-8"}

    def run(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            words,
            cwd=cwd or self.repository,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def ok(self, *words: str, cwd: Path | None = None, **env: str) -> str:
        """Run a command that has to work; return what it printed."""
        done = self.run(*words, cwd=cwd, **env)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    if s3server.find() is None:
        pytest.skip("NO S3 SERVER on this machine: the installed package was not tried (invoke setup)")
    base = Path(tempfile.mkdtemp(prefix="ty", dir="/tmp"))  # sockets of local pods want short paths
    made = User(base)
    try:
        install(base)
        made.repository.mkdir()
        yield made
        yard = places(made.repository, made.env)
        for pod in LocalCloud(yard.cloud).list():
            LocalCloud(yard.cloud).terminate(pod.id)
        local.stop(yard)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def install(base: Path) -> None:
    """Put the wheel into an environment of its own, as pipx does; the packages it needs are those of this environment."""
    build = "import sys; from hatchling.build import build_wheel as build; print(build(sys.argv[1]))"
    name = subprocess.run([sys.executable, "-c", build, str(base)], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    venv.create(base / "env", with_pip=False, symlinks=True)
    python = base / "env" / "bin" / "python"
    uv = Path(sys.prefix) / "bin" / "uv"
    alone = ["--offline", "--no-deps", "--no-index", "--no-cache"]
    command: list[str | Path] = [uv, "pip", "install", "--quiet", *alone, "--python", python, base / name]
    subprocess.run(command, check=True, env={"PATH": "/usr/bin:/bin", "HOME": str(base)})
    (packages,) = (base / "env" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")


def test_the_command_is_there_with_version_and_completion_and_says_the_way_in(user: User) -> None:
    assert user.ok("trainyard", "--version", cwd=user.base) == f"Trainyard {__version__}\n"
    assert str(user.base) in user.ok("python", "-c", "import trainyard; print(trainyard.__file__)", cwd=user.base)
    outside = user.run("trainyard", "runs", cwd=user.base)
    assert (outside.returncode, outside.stderr) == (2, f"{user.base} is in no repository of Trainyard's\nTo make it one: trainyard init\n")


def test_from_an_empty_repository_to_a_trained_model_with_no_pod_left(user: User) -> None:
    (user.repository / "train.py").write_text(SCRIPT)
    user.ok("git", "init", "--quiet")
    user.ok("trainyard", "init")

    said = user.ok("trainyard", "train", "--name", "first", "--", "python", "train.py")

    assert "run new/first succeeded" in said and "trainyard download new/first/1 out/downloads/first" in said
    assert "invoke " not in said
    user.ok("trainyard", "download", "first", "here")
    assert json.loads((user.repository / "here" / "weights.json").read_text()) == {"w": 42}
    assert "trained by a script of the user's own" in user.ok("invoke", "logs", "first")
    assert LocalCloud(places(user.repository, user.env).cloud).list() == []
    assert (user.repository / "train.py").read_text() == SCRIPT
    lacking = user.run("trainyard", "train", "--recipe", "lorra")
    assert lacking.returncode == 2 and "Recipes here: example. Trainyard's: command, " in lacking.stderr


@pytest.mark.cli
def test_plain_pulumi_previews_the_same_repository(user: User) -> None:
    cli = installed.find(os.environ)
    if cli is None or not installed.has_command_plugin(os.environ):
        pytest.skip("NO PULUMI CLI on PATH: a preview in a repository of one's own was not tried")
    user.ok("trainyard", "init", "--yes")
    user.ok("trainyard", "up")
    line = 'eval "$(trainyard env)" && pulumi preview --stack local --non-interactive'

    said = user.ok("sh", "-c", line, PATH=f"{user.bin}:{cli.parent}:/usr/bin:/bin")

    # What the built-in engine has made for the run before is all that the program declares.
    assert "7 unchanged" in said, said
