"""Run a case by Trainyard."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from tests.cases.golden import Course, Place
from trainyard import playbook
from trainyard.errors import UserError
from trainyard.playbook import Host, Report, Silent
from trainyard.playbook.hosts.inventory import Inventory
from trainyard.playbook.hosts.sources import add_named, read
from trainyard.playbook.model import Task
from trainyard.playbook.report import Status
from trainyard.remote.protocol import Transport
from trainyard.remote.transport import LocalTransport

_ENDED = {0: "ok", 2: "failed", 5: "unreachable"}


class RecordedCourse(Silent):
    """Keeps what a run of ours shows."""

    def __init__(self) -> None:
        self.course = Course()

    def play(self, name: str, *, nobody: bool = False) -> None:
        """Head a play."""
        self.course.head(f"PLAY [{name}]")

    def task(self, name: str, *, handler: bool = False) -> None:
        """Head a task."""
        self.course.head(f"{'HANDLER' if handler else 'TASK'} [{name}]")

    def outcome(self, host: str, task: Task, status: Status, result: Mapping[str, object], label: str | None) -> None:
        """Keep how a task ended; that a failed item is ignored is a word about the whole task."""
        said = result.get("msg") if task.action == "debug" and status == "ok" and not task.no_log else None
        host = host.partition(" -> ")[0]
        self.course.outcome(host, "failed" if status == "ignored" and label is not None else status, label, said)

    def retrying(self, host: str, task: Task, left: int) -> None:
        """Keep that it is tried again."""
        self.course.outcome(host, f"retry, {left} left")

    def included(self, name: str, hosts: Sequence[str], label: str | None) -> None:
        """Keep whom an include brings its tasks to."""
        for host in hosts:
            self.course.outcome(host, "included", label)

    def recap(self, report: Report) -> None:
        """Keep the counters."""
        for host, tally in report.tallies.items():
            self.course.count(host, asdict(tally))


class _NoWait:
    def sleep(self, seconds: float) -> None:
        """Do not wait."""


def _inventory(place: Place) -> Inventory:
    inventory = Inventory()
    if named := place.case.options.get("inventory"):
        read(inventory, [str(place.folder / named)])
    for name in () if named else place.case.hosts:
        add_named(inventory, name)
    return inventory


def run(place: Place, reach: Callable[[], Transport] = LocalTransport) -> Course:
    """Run a case once, on this machine or on what can be reached otherwise."""
    words, seen = place.case.options, RecordedCourse()
    home, os.environ["HOME"] = os.environ.get("HOME"), str(place.tmp / "home")
    inventory = _inventory(place)
    hosts = {name: Host(reach(), beside=partial(inventory.known_of, name)) for name in inventory.hosts}
    try:
        report = playbook.run(
            playbook.load(place.folder / "play.yml"), hosts, place.extra, groups=inventory.members(), limit=words.get("limit", ()),
            check=words.get("check", False), diff=words.get("diff", False), tags=words.get("tags", ()),
            skip_tags=words.get("skip_tags", ()), start_at=words.get("start_at"), reporter=seen, clock=_NoWait(),
        )  # fmt: skip
        seen.course.ended = _ENDED[report.exit_code]
    except UserError as error:
        seen.course.ended = f"refused: {error.message}"
    finally:
        for each in hosts.values():
            each.transport.close()
        os.environ.pop("HOME")
        os.environ |= {} if home is None else {"HOME": home}
    return seen.course
