"""A part of the conformance table: all refusals, and a random sample of the cases with its seed printed.

``python -m tests.engine.matrix`` runs all cases, all pairs of operations and all crash points, on both engines
where the CLI is. With ``TRAINYARD_TEST_SEED`` the same sample is drawn again.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.engine import crash
from tests.engine.bench import cli_found
from tests.engine.cases import CASES, REFUSALS, Case, Refusal, pairs
from tests.engine.matrix import check_case, check_refusal

SEED = int(os.environ["TRAINYARD_TEST_SEED"])
RANDOM = random.Random(SEED)
SAMPLE = RANDOM.sample(CASES, 5) + RANDOM.sample(pairs(), 2)
ON_BOTH = RANDOM.sample(CASES, 1)
POINTS = [(name, RANDOM.random()) for name in RANDOM.sample(sorted(crash.OPERATIONS), 3)]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: r.name)
def test_what_is_not_supported_is_refused_by_name_before_anything_exists(refusal: Refusal) -> None:
    assert check_refusal(refusal) == []


@pytest.mark.parametrize("case", SAMPLE, ids=lambda c: c.name)
def test_a_case_of_the_table_holds(case: Case) -> None:
    print(f"TRAINYARD_TEST_SEED={SEED}: {len(CASES)} cases and {len(pairs())} pairs are in the table")
    assert check_case(case, with_cli=False) == []


@pytest.mark.cli
@pytest.mark.skipif(cli_found() is None, reason="no pulumi CLI on PATH: the engines are NOT compared")
@pytest.mark.parametrize("case", ON_BOTH, ids=lambda c: c.name)
def test_both_engines_do_the_same(case: Case) -> None:
    print(f"TRAINYARD_TEST_SEED={SEED}")
    assert check_case(case, with_cli=True) == []


@pytest.mark.parametrize(("operation", "where"), POINTS)
def test_a_crash_leaves_nothing_behind(operation: str, where: float) -> None:
    found = crash.points(operation)
    point = found[int(where * len(found))]
    print(f"TRAINYARD_TEST_SEED={SEED}: {point}, one of {len(found)} points")
    follow = "destroy" if point.number % 2 else "up"
    assert crash.check(point, [follow]) == {follow: []}
