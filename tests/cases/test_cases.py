"""Each file of ok/ does what stands beside it: events, recap of two runs, and the tree that it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases import compared, golden, ours
from tests.cases.golden import GoldenCase


@pytest.mark.parametrize("case", golden.cases(), ids=lambda case: case.name)
def test_a_case_does_what_stands_beside_it(case: GoldenCase, tmp_path: Path) -> None:
    expected = case.expected.read_text(encoding="utf-8") if case.expected.exists() else ""
    place = tmp_path / "case"
    place.mkdir()

    assert golden.both_runs(case.lay_out(place), ours.run) == expected, f"invoke playbook.cases --write -- {case.name}, where that is right"


def test_ansible_core_did_the_same_where_no_difference_is_named() -> None:
    known, meant = compared.recorded(), compared.differences()
    fresh = [case for case in golden.cases() if case not in compared.stale([case])]

    assert [sentence for case in fresh if (sentence := compared.wrong(case, known, meant))] == []


def test_every_difference_is_shown_by_a_case() -> None:
    names = {case.name for case in golden.cases()}

    assert [each.name for each in compared.differences() if not each.cases or set(each.cases) - names] == []


def test_nothing_lies_beside_cases_that_is_of_none() -> None:
    names = {case.name for case in golden.cases()}

    assert {path.name for path in golden.FOLDER.iterdir() if path.stem not in names} == set()
