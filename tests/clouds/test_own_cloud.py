"""The cloud that docs/clouds.md shows: a package of a user's adds it, and it keeps the contract that ours keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clouds.account import Account, account, make_spec
from tests.clouds.contract import CASES
from tests.settings.packages import installing
from trainyard.pod.watchdog import find_ways

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "nimbus"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder, patch = tmp_path_factory.mktemp("site"), pytest.MonkeyPatch()
    files = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLE.glob("*.py")}
    with patch.context() as context, installing(folder, context) as install:
        install("trainyard-nimbus", {**files, "entry_points": "nimbus = nimbus:NIMBUS"})
        with account("nimbus", tmp_path_factory.mktemp("nimbus")) as at:
            yield at


def test_a_cloud_of_a_package_keeps_the_whole_contract(opened: Account) -> None:
    for case in CASES:
        case(opened)
        opened.clear()


def test_its_pods_end_themselves_by_what_their_create_request_brought(opened: Account) -> None:
    pod_id = opened.rent(make_spec(opened.cloud)).id
    machines, record = opened.emulator.fleet.machines, opened.emulator.fleet.existing(pod_id)
    (way,) = find_ways(opened.emulator.cloud.container(machines, record).env)

    assert way.prove() is not None
    way.end("its lease is over")
    assert not opened.alive()


def test_it_is_short() -> None:
    assert len((EXAMPLE / "nimbus.py").read_text().splitlines()) < 150
