"""Environments that nobody needs are removed; one that a living pod uses never is."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clouds.local import pods
from tests.recipes.conftest import ROOT
from tests.recipes.test_venvs import WITH_LOCK, wheel
from trainyard.clouds.local import LocalCloud
from trainyard.config import Places
from trainyard.recipes import bundle, unused, venvs
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

WAITS = """
import os, tinypack, time
os.makedirs(os.environ["OUTPUT_DIR"] + "/model", exist_ok=True)
open(os.environ["OUTPUT_DIR"] + "/model/m", "w").write(str(tinypack.ANSWER))
while not os.path.exists(os.environ["WORKSPACE"] + "/finish"):
    time.sleep(0.05)
"""


@pytest.fixture
def root(checkout: Callable[..., Any]) -> Path:
    """A checkout with one recipe, whose lock is about to change."""
    made: Path = checkout(WITH_LOCK, name="packed", go_py=WAITS, cpu_lock="tinypack==1.0\n")
    return made


@pytest.fixture
def places(root: Path, tmp_path: Path) -> Iterator[Places]:
    outside = Path(tempfile.mkdtemp(prefix="tyun"))  # sockets of pods need a short path
    yield Places(root, tmp_path / "home", outside, tmp_path / "settings")
    shutil.rmtree(outside)


def built(places: Places, name: str = "0123456789abcdef-py3.11-linux-x86_64", *, age: float = 2 * unused.FRESH) -> Path:
    """Make a folder that stands for an environment that was last used a while ago."""
    path = venvs.envs(places) / name
    (path / "lib").mkdir(parents=True)
    (path / "lib" / "big.so").write_bytes(b"x" * 1_000_000)
    (path / venvs.STAMP).write_text("packed/cpu.lock\n")
    grow_old(path, age)
    return path


def grow_old(path: Path, age: float = 2 * unused.FRESH) -> None:
    os.utime(path / venvs.STAMP, (time.time() - age,) * 2)


def kept(places: Places) -> str | None:
    """Return why the only environment stays."""
    (found,) = unused.survey(places)
    assert unused.clean(places) == ([found] if found.keep is None else [])
    assert found.path.exists() == (found.keep is not None)
    return found.keep


def test_an_environment_that_nobody_needs_is_removed_with_its_size(places: Places) -> None:
    path = built(places)
    (gone,) = unused.clean(places)
    assert gone.path == path and not path.exists()
    assert 1_000_000 <= gone.size < 1_100_000
    assert list(unused.lines([gone], [gone])) == [f"removed: {path.name} (of packed/cpu.lock, 1.0 MB)"]
    assert unused.survey(places) == []


def test_what_lies_in_uvs_cache_too_is_said_not_to_be_free(places: Places, tmp_path: Path) -> None:
    path = built(places)
    with (path / "lib" / "big.so").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 200_000_000)
    os.link(path / "lib" / "big.so", path / "lib" / "same.so")
    assert unused.survey(places)[0].linked == 0
    os.link(path / "lib" / "big.so", tmp_path / "cached.so")
    gone = unused.clean(places)
    assert 200_000_000 <= gone[0].linked < gone[0].size < 201_000_000
    assert "200.0 MB lie in uv's cache too" in list(unused.lines(gone, gone))[-1]


def test_what_a_lock_of_this_checkout_names_stays_until_the_lock_changes(places: Places, root: Path) -> None:
    lock = root / "templates" / "packed" / "cpu.lock"
    built(places, venvs.key_of(lock))
    assert kept(places) == "needed by packed/cpu.lock"
    lock.write_text("tinypack==2.0\n")
    assert kept(places) is None


def test_what_was_just_asked_for_stays_as_its_pod_may_be_about_to_start(places: Places, root: Path) -> None:
    lock = root / "templates" / "packed" / "cpu.lock"
    path = built(places, venvs.key_of(lock))
    assert venvs.ensure(lock, places, print) == path
    lock.write_text("tinypack==2.0\n")
    assert kept(places) == "used within the last hour"


def test_what_is_being_built_stays_and_what_a_killed_build_left_goes(places: Places) -> None:
    path = built(places)
    (path / venvs.STAMP).unlink()
    with venvs.guard_of(path).open("a") as builder:
        fcntl.flock(builder, fcntl.LOCK_EX)
        assert kept(places) == "being built"
    assert kept(places) is None


def test_an_environment_that_a_living_pod_uses_is_never_removed(
    places: Places, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    lock = root / "templates" / "packed" / "cpu.lock"
    lock.write_text(wheel(tmp_path / "wheels").read_text())
    env = {**os.environ, "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_NO_INDEX": "1", "UV_CACHE_DIR": str(tmp_path / "uv")}
    path = venvs.ensure(lock, places, print, env=env)
    common = root / "templates" / "common"
    common.mkdir()
    for name in ("run.sh.j2", "installer.lock"):
        shutil.copyfile(ROOT / "templates" / "common" / name, common / name)
    recipe = load_recipe(root, "packed")
    made = bundle.build(recipe, resolve(recipe), inspect(None, recipe), tmp_path / "run")
    files = {f"workspace/run/{name}": (made.dir / name).read_bytes() for name in made.files}
    cloud = LocalCloud(places.cloud)
    pod = pods.create(cloud, pods.spec(boot=("sh", "run/run.sh")), files=files)
    try:
        workspace = places.cloud / "pods" / pod.id / "workspace"
        pods.wait_for((workspace / "output" / "model" / "m").exists, "the training")
        lock.write_text("tinypack==2.0\n")
        grow_old(path)
        assert kept(places) == "in use"

        (workspace / "finish").touch()
        pods.wait_for(lambda: '"done"' in (workspace / "output" / "status.json").read_text(), "the end of the training")
        pods.wait_for(lambda: unused.survey(places)[0].keep is None, "the last process of the training")
        assert kept(places) is None
    finally:
        cloud.terminate(pod.id)
