"""A sample of the lies (the whole: ``invoke faults.cloud``, or ``python -m tests.faults.lies``), drawn with the printed seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.conftest import SEED
from tests.faults.liar import Site, open_site, site
from tests.faults.lies import Case, cases, play
from trainyard.rehearsal.emulators import emulator_of, emulators
from trainyard.settings.clouds import entries

BELIEVED = (
    Case("teardown", "list", "200, pods: ''", "for good", ignored=True),
    Case("teardown", "list", "id with slash", "once", ignored=True),
    Case("end", "delete", "409", "once"),
    Case("end", "get", "200, deep", "once"),
    Case("end", "list", "clock without zone", "once"),
    Case("reap", "list", "created never", "for good"),
    Case("dry", "list", "429, odd digits", "once"),
    Case("dry", "list", "price negative", "for good"),
    Case("dry", "list", "price NaN", "for good"),
    Case("create", "create", "another pod", "for good"),
    Case("create", "create", "price null", "for good"),
    Case("create", "list", "name upper case", "for good"),
    Case("create", "create", "id upper case", "for good"),
    Case("create", "list", "ids crosswise", "for good"),
    Case("create", "list", "no marks", "for good"),
    Case("teardown", "list", "ids crosswise", "for good"),
    Case("sweep", "list", "ids crosswise", "once"),
    Case("reap", "list", "ids crosswise", "for good"),
    Case("sweep", "list", "id with slash", "once"),
    Case("reap", "list", "409", "once"),
    Case("reap", "list", "without ids", "once"),
    Case("reap", "get", "end far", "once"),
)
"""Each was believed once, ended in a traceback, or, told once, kept alive what was over."""


CLOUD = random.Random(SEED).choice([name for name in emulators() if not entries()[name].extra])


@pytest.fixture(scope="module")
def runpod() -> Iterator[Site]:
    with site() as first:
        yield first


@pytest.fixture(scope="module")
def drawn_cloud() -> Iterator[Site]:
    with site(CLOUD) as first:
        yield first


@pytest.mark.parametrize("case", BELIEVED, ids=str)
def test_a_lie_that_was_believed_once_is_not_believed(runpod: Site, case: Case) -> None:
    problems = play(open_site(runpod.emulator, runpod.offers), case)

    assert not problems


@pytest.mark.parametrize("case", random.Random(SEED).sample(cases(emulator_of(CLOUD)), 24), ids=str)
def test_a_lie_of_a_cloud_is_not_believed(drawn_cloud: Site, case: Case) -> None:
    problems = play(open_site(drawn_cloud.emulator, drawn_cloud.offers), case)

    assert not problems, f"seed {SEED}: python -m tests.faults.lies --stack {CLOUD} --only '{case}'"
