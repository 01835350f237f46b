"""One rehearsal cloud for the tests of a file."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.faults.bench import Bench
from tests.faults.world import World, world
from trainyard.rehearsal.emulators import emulators
from trainyard.settings.clouds import entries

SEED = int(os.environ["TRAINYARD_TEST_SEED"])
DRAWN = random.Random(SEED).choice([name for name in emulators() if entries()[name].ssh])
"""The cloud that samples of the matrices are played on."""


@pytest.fixture(scope="module")
def cloud_world() -> Iterator[World]:
    """An account at the rehearsal's cloud."""
    with world() as made:
        yield made


@pytest.fixture(scope="module")
def drawn_world() -> Iterator[World]:
    """An account at a cloud that is drawn anew each time: whichever has an emulator and SSH."""
    with world(DRAWN) as made:
        yield made


@pytest.fixture(scope="module")
def bench(drawn_world: World) -> Bench:
    """A bench with the colleague's pod on the account."""
    made = Bench(drawn_world)
    made.calibrate()
    return made
