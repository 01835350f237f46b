"""A local cloud on every isolation level this machine has; after each test nothing of it may be left."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clouds.local import pods
from trainyard.clouds.local import LocalCloud, gpulocks


@pytest.fixture(params=["namespace", "process"])
def isolation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force one isolation level; skipped loudly where this machine refuses it."""
    why = pods.refused(request.param)
    if why:
        pytest.skip(f"isolation '{request.param}' is refused on this machine: {why}")
    monkeypatch.setenv("TRAINYARD_LOCAL_ISOLATION", request.param)
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path: sockets in it must stay nameable."""
    path = Path(tempfile.mkdtemp(prefix="tylc"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cloud(isolation: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """Return an empty cloud; asserts at the end that no pod, process or file of it is left."""
    monkeypatch.setattr(gpulocks, "PLACES", (str(folder),))
    made = LocalCloud(folder / "cloud")
    yield made
    for pod in made.list():
        made.terminate(pod.id)
    assert made.list() == []
    assert pods.leftovers(made) == []
    pods.wait_for(lambda: not pods.living(str(folder)), "the last process of the cloud")


@pytest.fixture
def token() -> str:
    """Return a word by which a test finds its processes."""
    return f"torture-{os.urandom(6).hex()}"


@pytest.fixture
def seed() -> Iterator[random.Random]:
    """Return a random source; its seed is printed, and shown by pytest when the test fails."""
    number = int(os.environ.get("TRAINYARD_TEST_SEED") or time.time_ns() % 10**9)
    print(f"TRAINYARD_TEST_SEED={number}")
    yield random.Random(number)
