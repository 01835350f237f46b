"""One rehearsal cloud for the tests of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.bench import Bench
from tests.faults.world import World, world

SEED = int(os.environ["TRAINYARD_TEST_SEED"])


@pytest.fixture(scope="module")
def cloud_world() -> Iterator[World]:
    """An account at the rehearsal's cloud."""
    with world() as made:
        yield made


@pytest.fixture(scope="module")
def bench(cloud_world: World) -> Bench:
    """A bench with the colleague's pod on the account."""
    made = Bench(cloud_world)
    made.calibrate()
    return made
