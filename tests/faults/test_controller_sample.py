"""A sample of the controller's matrix (the whole: ``invoke faults.controller``): drawn anew each time, with its seed printed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.conftest import SEED
from tests.faults.controller import BEGUN, ROADS, Bench, draw

SAMPLE = 2


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_whatever_fails_at_the_controller_pod_and_result_outlive_it(bench: Bench) -> None:
    road = ROADS[SEED % len(ROADS)]

    for case in draw(SEED, {road: bench.census(road)}, BEGUN)[:SAMPLE]:
        result = bench.run(case)

        told = "\n".join([f"seed {SEED}; again: python -m tests.faults.controller --case '{case}'", *result.problems, *result.story])
        assert not result.problems, told
