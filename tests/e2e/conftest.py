"""Yards are made in short paths: unix sockets allow 108 bytes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scanner import scanning
from tests.e2e.yard import Yard


@pytest.fixture(autouse=True)
def _no_secret_in_the_open() -> Iterator[None]:
    """Fail a test in whose runs a secret was anywhere but where it belongs."""
    with scanning() as scanner:
        yield
    assert not scanner.seen, "\n".join(f"{sight.secret} in {sight.place}" for sight in sorted(scanner.seen, key=str))


def _make(**extra: Any) -> Yard:
    return Yard(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")), extra)


@pytest.fixture
def yard() -> Iterator[Yard]:
    made = _make()
    yield made
    made.close()
    shutil.rmtree(made.base, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_yard() -> Iterator[Yard]:
    made = _make()
    yield made
    made.close()
    shutil.rmtree(made.base, ignore_errors=True)
