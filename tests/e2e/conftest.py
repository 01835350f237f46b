"""Yards are made in short paths: unix sockets allow 108 bytes."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.e2e.yard import Yard


def _make(**extra):
    return Yard(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")), extra)


@pytest.fixture
def yard():
    made = _make()
    yield made
    made.close()
    shutil.rmtree(made.base, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_yard():
    made = _make()
    yield made
    made.close()
    shutil.rmtree(made.base, ignore_errors=True)
