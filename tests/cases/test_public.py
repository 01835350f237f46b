"""Playbooks in the shape in which people of GPUs and models write them, on a Debian of their own: packages are really installed.

Nothing may fail, and a second run may change nothing. ``invoke playbook.public``; minutes, by root, with mmdebstrap.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cases import machine
from trainyard import playbook
from trainyard.playbook import Host, TextReporter

PUBLIC = Path(__file__).parent / "public"
NAMES = sorted(path.stem for path in PUBLIC.glob("*.yml") if not path.stem.startswith("ollama-"))


@dataclass(frozen=True)
class Rented:
    """A machine, and what its playbooks are told."""

    root: Path
    extra: dict[str, object]


@pytest.fixture(scope="module")
def rented() -> Iterator[Rented]:
    if (why := machine.lacking()) is not None:
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="typ", dir="/var/tmp"))
    try:
        machine.make(folder / "root")
        with machine.mirror(folder / "web") as (address, sums):
            yield Rented(folder / "root", {"mirror": address, "sums": dict(sums)})
    finally:
        shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_public_playbook_sets_a_machine_up_and_changes_nothing_the_second_time(rented: Rented, name: str) -> None:
    for again in (False, True):
        lines: list[str] = []
        with machine.enter(rented.root) as way:
            report = playbook.run(
                playbook.load(PUBLIC / f"{name}.yml"), {"node1": Host(way)}, rented.extra, groups={"gpu": ["node1"]},
                reporter=TextReporter(lines.append),
            )  # fmt: skip
        tally = report.tallies["node1"]

        assert (tally.failed, tally.unreachable) == (0, 0), "\n".join(lines)
        assert not again or tally.changed == 0, "\n".join(lines)


@pytest.mark.long
def test_a_machine_of_busybox_alone_is_set_up_and_changed_no_second_time(tmp_path: Path) -> None:
    if (why := machine.lacking()) is not None:
        pytest.skip(why)
    machine.make_of_busybox(tmp_path / "root")
    for again in (False, True):
        lines: list[str] = []
        with machine.mirror(tmp_path / f"web{again}") as (address, _), machine.enter(tmp_path / "root") as way:
            busybox = playbook.load(PUBLIC.with_name("busybox.yml"))
            report = playbook.run(busybox, {"node1": Host(way)}, {"mirror": address}, reporter=TextReporter(lines.append))
        assert report.exit_code == 0 and not (again and report.tallies["node1"].changed), "\n".join(lines)
