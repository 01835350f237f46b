"""Environments for pods: built once with the real uv from a wheel on this disk, whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import COUNT, ROOT
from trainyard.clouds.local import launch
from trainyard.config import Places
from trainyard.errors import TrainyardError
from trainyard.recipes import bundle, venvs
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve


def wheel(folder: Path, name: str = "tinypack", body: str = "ANSWER = 42\n") -> Path:
    """Write a wheel and return the lock that pins it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": body,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {key: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode() for key, text in files.items()}
    files[f"{info}/RECORD"] = "".join(f"{key},sha256={digests[key]},{len(files[key])}\n" for key in digests) + f"{info}/RECORD,,\n"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as out:
        for key, text in files.items():
            out.writestr(key, text)
    lock = folder / "cpu.lock"
    lock.write_text(f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return lock


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, tmp_path / "home", tmp_path / "outside", tmp_path / "settings")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "wheels").mkdir()
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return {
        **kept,
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "UV_CACHE_DIR": str(tmp_path / "uv"),
    }


def answer(path: Path) -> str:
    return subprocess.run([path / "bin" / "python", "-c", "import tinypack; print(tinypack.ANSWER)"], capture_output=True, text=True).stdout


def test_an_environment_is_built_once_and_imports_what_the_recipe_imports(tmp_path: Path, places: Places, env: dict[str, str]) -> None:
    lock = wheel(tmp_path / "wheels")
    said: list[str] = []
    path = venvs.ensure(lock, places, said.append, imports=["tinypack"], env={**env, "PYTHONDONTWRITEBYTECODE": "1"})
    assert path.parent == places.cloud / "envs" and answer(path) == "42\n"
    assert list(path.rglob("__pycache__/tinypack.*.pyc")), "the import leaves bytecode for pods that cannot write it"
    assert "some GB, once for this machine" in said[0] and "ready after" in said[-1]

    said.clear()
    assert venvs.ensure(lock, places, said.append, env={}) == path and said == []


def test_another_lock_is_another_environment(tmp_path: Path, places: Places, env: dict[str, str]) -> None:
    lock = wheel(tmp_path / "wheels")
    first = venvs.key_of(lock)
    lock.write_text(lock.read_text() + "# changed\n")
    assert venvs.key_of(lock) != first


def test_what_a_killed_build_left_is_thrown_away(tmp_path: Path, places: Places, env: dict[str, str]) -> None:
    lock = wheel(tmp_path / "wheels")
    half = places.cloud / "envs" / venvs.key_of(lock)
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("half")
    path = venvs.ensure(lock, places, lambda _: None, env=env)
    assert path == half and answer(path) == "42\n"


def test_two_at_once_build_one_and_the_second_says_that_it_waits(tmp_path: Path, places: Places, env: dict[str, str]) -> None:
    lock, said, found = wheel(tmp_path / "wheels"), [], []
    begun, go_on = threading.Event(), threading.Event()

    def slow(line: str) -> None:
        said.append(line)
        begun.set()
        go_on.wait(20)

    def second(line: str) -> None:
        said.append(line)
        go_on.set()

    def build(on_line: Callable[..., Any]) -> None:
        found.append(venvs.ensure(lock, places, on_line, env=env))

    first = threading.Thread(target=build, args=(slow,))
    first.start()
    assert begun.wait(20)
    build(second)
    first.join(30)
    assert found[0] == found[1] and len([line for line in said if line.startswith("building")]) == 1
    assert any("waiting for it" in line for line in said)


def test_a_package_with_another_hash_is_refused_and_nothing_counts_as_ready(tmp_path: Path, places: Places, env: dict[str, str]) -> None:
    lock = wheel(tmp_path / "wheels")
    wheel(tmp_path / "wheels", body="ANSWER = 'evil'\n")
    (tmp_path / "old.lock").write_text("tinypack==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(TrainyardError, match=r"installing the packages of .*old\.lock"):
        venvs.ensure(tmp_path / "old.lock", places, lambda _: None, env=env)
    assert not list((places.cloud / "envs").glob("*/.complete"))
    assert lock.exists()


def test_an_environment_that_cannot_import_is_not_ready(tmp_path: Path, places: Places, env: dict[str, str]) -> None:
    lock = wheel(tmp_path / "wheels", body="raise RuntimeError('no GPU library')\n")
    with pytest.raises(TrainyardError, match="no GPU library"):
        venvs.ensure(lock, places, lambda _: None, imports=["tinypack"], env=env)
    assert not list((places.cloud / "envs").glob("*/.complete"))


def test_recipes_without_a_lock_need_no_environment(places: Places) -> None:
    recipe = load_recipe(ROOT, "command")
    assert venvs.prepare(recipe, resolve(recipe, sets=[f"script={COUNT}"]), None, places, lambda _: None) is None


# ---- the same on the pod: run.sh finds a ready environment, or builds one

WITH_LOCK = """
summary: a recipe with a package
command: python go.py
data: none
files: [go.py]
locks: {cpu: cpu.lock}
verdict: {artefacts: ["model/*"]}
"""
GO = """
import os, tinypack
os.makedirs(os.environ["OUTPUT_DIR"] + "/model", exist_ok=True)
open(os.environ["OUTPUT_DIR"] + "/model/m", "w").write(str(tinypack.ANSWER))
"""


class ByHand:
    """A rendered bundle whose run.sh is started by hand."""

    def __init__(self, lock: Path, wheels: Path, pod: Path) -> None:
        self.lock, self.wheels, self.pod = lock, wheels, pod

    def __call__(self, **extra: str) -> tuple[int, str]:
        base = {"PATH": f"{os.path.dirname(venvs.find_uv())}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}
        wheels = {"PIP_FIND_LINKS": str(self.wheels), "UV_OFFLINE": "1", "UV_CACHE_DIR": str(self.pod.parent / "uv")}
        done = subprocess.run(["sh", self.pod / "run" / "run.sh"], env={**base, **wheels, **extra}, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def run(tmp_path: Path, checkout: Callable[..., Any]) -> ByHand:
    (tmp_path / "w2").mkdir()
    lock = wheel(tmp_path / "w2")
    root = checkout(WITH_LOCK, name="packed", go_py=GO, cpu_lock=lock.read_text())
    (root / "templates" / "common").mkdir()
    for name in ("run.sh.j2", "installer.lock"):
        (root / "templates" / "common" / name).write_bytes((ROOT / "templates" / "common" / name).read_bytes())
    recipe = load_recipe(root, "packed")
    bundle.build(recipe, resolve(recipe), inspect(None, recipe), tmp_path / "pod" / "run")
    return ByHand(recipe.locks["cpu"], lock.parent, tmp_path / "pod")


def test_run_sh_takes_the_environment_that_was_made_for_local_pods(
    run: ByHand, tmp_path: Path, places: Places, env: dict[str, str]
) -> None:
    env["PIP_FIND_LINKS"] = str(tmp_path / "w2")
    path = venvs.ensure(run.lock, places, lambda _: None, env=env)
    code, log = run(TRAINYARD_ENVS=str(places.cloud / "envs"))
    assert code == 0, log
    assert f"ready environment {path.name}" in log and not (run.pod / ".trainyard" / "envs").exists()
    assert (run.pod / "output" / "model" / "m").read_text() == "42"


def test_run_sh_builds_one_where_there_is_none_and_takes_it_again(run: ByHand) -> None:
    code, log = run(TRAINYARD_ENVS="/nonexistent")
    assert code == 0, log
    assert "building the environment of cpu.lock" in log and len(list((run.pod / ".trainyard" / "envs").iterdir())) == 1
    code, log = run()
    assert code == 0 and "ready environment" in log and "building" not in log


def test_run_sh_takes_no_half_built_environment(run: ByHand, places: Places) -> None:
    half = places.cloud / "envs" / venvs.key_of(run.lock)
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").symlink_to(sys.executable)
    code, log = run(TRAINYARD_ENVS=str(places.cloud / "envs"))
    assert code == 0 and "building the environment" in log


def test_run_sh_uses_a_named_python_as_it_is(run: ByHand) -> None:
    code, log = run(TRAINYARD_PYTHON=sys.executable)
    assert code == 1 and "No module named 'tinypack'" in log and "building" not in log


def test_run_sh_says_what_to_do_when_packages_cannot_be_had(run: ByHand) -> None:
    code, log = run(PIP_FIND_LINKS="", UV_CACHE_DIR=str(run.pod / "cache"))
    assert code == 69 and "the packages of cpu.lock could not be installed" in log
    assert '"failed"' in (run.pod / "output" / "status.json").read_text()


def test_a_lock_that_is_made_for_another_python_gets_that_one_and_pods_of_this_machine_see_it(
    tmp_path: Path, places: Places, env: dict[str, str]
) -> None:
    lock = wheel(tmp_path / "wheels")
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    path = venvs.ensure(lock, places, lambda line: None, env=env, python=own)
    assert path.name == venvs.key_of(lock, own) == venvs.key_of(lock)
    with pytest.raises(TrainyardError, match=r"3\.1"):
        venvs.ensure(lock, places, lambda line: None, env={**env, "PATH": "/nowhere", "UV_PYTHON_DOWNLOADS": "never"}, python="3.1")

    elsewhere = tmp_path / "pythons/3.99"
    (elsewhere / "bin").mkdir(parents=True)
    (elsewhere / "bin/python3.99").touch()
    (places.cloud / "envs/other/bin").mkdir(parents=True)
    (places.cloud / "envs/other/bin/python").symlink_to(elsewhere / "bin/python3.99")
    assert str(elsewhere) in launch.needed_folders(venvs.envs(places))
