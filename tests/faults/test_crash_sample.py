"""A sample of the crash matrix (the whole: ``invoke faults.crash``): drawn anew each time, with its seed printed."""

from __future__ import annotations

import itertools

import pytest

from tests.faults.bench import Bench
from tests.faults.cases import Case, draw, parse
from tests.faults.conftest import DRAWN, SEED

SAMPLE = 4
ALWAYS = "train/builtin/all/accepted/attach"
"""Killed between the cloud's accept and its own record: the case that costs money everywhere."""


def sample() -> list[Case]:
    """Return the first cases of the seed that need not be waited for."""
    drawn = (draw(SEED, number, ["builtin"], DRAWN) for number in itertools.count())
    return [parse(ALWAYS), *itertools.islice((case for case in drawn if not case.slow), SAMPLE)]


@pytest.mark.parametrize("case", sample(), ids=str)
def test_whatever_dies_nothing_is_left_and_nothing_is_paid_twice(bench: Bench, case: Case) -> None:
    result = bench.run(case)

    told = "\n".join([f"seed {SEED}; again: python -m tests.faults.crash --stack {DRAWN} --case {case}", *result.problems, *result.story])
    assert not result.problems, told
