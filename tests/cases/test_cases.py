"""Each file of ok/ does what stands beside it: events, recap of two runs, and the tree that it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases import golden, ours
from tests.cases.golden import GoldenCase


@pytest.mark.parametrize("case", golden.cases(), ids=lambda case: case.name)
def test_a_case_does_what_stands_beside_it(case: GoldenCase, tmp_path: Path) -> None:
    expected = case.expected.read_text(encoding="utf-8") if case.expected.exists() else ""
    place = tmp_path / "case"
    place.mkdir()

    assert golden.both_runs(case.lay_out(place), ours.run) == expected, f"invoke playbook.cases --write -- {case.name}, where that is right"


def test_nothing_lies_beside_cases_that_is_of_none() -> None:
    names = {case.name for case in golden.cases()}

    assert {path.name for path in golden.FOLDER.iterdir() if path.stem not in names} == set()
