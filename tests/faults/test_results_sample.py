"""A sample of the results' matrix (the whole: ``invoke faults.results``): drawn anew each time, with its seed printed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.conftest import SEED
from tests.faults.results.__main__ import PLAY, verdict
from tests.faults.results.cases import WHOLE, Case, draw, parse
from tests.faults.results.world import World, world

SHORT = ("ahead", "resume", "kept", "home", "init", "data")
LIGHT = ("plain", "names", "unnameable", "links", "kinds", "empty")


@pytest.fixture(scope="module")
def store() -> Iterator[World]:
    with world() as made:
        yield made


def sample() -> list[Case]:
    """Return a controller killed at a drawn moment, and the first drawn cases, on each road, that are light enough for every day."""
    drawn = [draw(SEED, number) for number in range(200) if number % WHOLE != WHOLE - 1]
    light = [case for case in drawn if case.level == "commit" and case.content in LIGHT]
    roads = [case for case in drawn if case.level in SHORT]
    killed = parse(f"commit/plain/kill controller/{drawn[0].moment:.4f}/here/success/{SEED}")
    return [killed, light[0], roads[0]]


@pytest.mark.parametrize("case", sample(), ids=str)
def test_whatever_fails_on_a_results_way_it_ends_whole_in_the_bucket_or_is_kept_and_told(store: World, case: Case) -> None:
    result = PLAY[case.level](store, case)

    assert not result.problems, f"seed {SEED}\n{verdict(0, result, 'versitygw')}"
