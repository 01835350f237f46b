"""The contract, with every cloud of the table that has an emulator."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clouds.account import Account, account
from tests.clouds.contract import CANNOT, CASES, WITHOUT_EMULATOR
from trainyard.rehearsal.emulators import emulators
from trainyard.settings.clouds import entries


def _played() -> list[object]:
    """Return the clouds that have an emulator; one that needs an extra is tried where the extra is."""
    rows = [(name, entries()[name].extra) for name in emulators()]
    return [pytest.param(name, marks=pytest.mark.extras(extra)) if extra else name for name, extra in rows]


@pytest.fixture(scope="module", params=_played())
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with account(request.param, tmp_path_factory.mktemp("contract")) as made:
        yield made


@pytest.fixture
def at(opened: Account) -> Iterator[Account]:
    yield opened
    opened.clear()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_cloud_keeps_the_contract(at: Account, case: Callable[[Account], None]) -> None:
    excuse = CANNOT.get(at.emulator.cloud.name, {}).get(case.__name__)
    if excuse is None:
        case(at)
        return
    with pytest.raises((Exception, pytest.fail.Exception)):
        case(at)


@pytest.fixture(scope="module")
def here() -> Iterator[Account]:
    with tempfile.TemporaryDirectory(prefix="lo") as folder:  # a short path: Unix sockets allow no long one
        yield Account(Path(folder))


@pytest.mark.parametrize("case", WITHOUT_EMULATOR, ids=lambda case: case.__name__)
def test_the_cloud_on_this_machine_keeps_it_too(here: Account, case: Callable[[Account], None]) -> None:
    try:
        case(here)
    finally:
        here.clear()


def test_an_excuse_is_for_a_case_and_a_cloud_that_there_are() -> None:
    names = {case.__name__ for case in CASES}

    assert all(cloud in emulators() and set(excuses) <= names and all(excuses.values()) for cloud, excuses in CANNOT.items())
