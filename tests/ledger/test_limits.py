"""Limits are held when several processes reserve at once, and what is refused leaves nothing on the ledger."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.limits import problems
from trainyard.errors import RefusedError
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.limits import SpendLimit
from trainyard.ledger.rows import Reservation
from trainyard.ledger.runid import RunId
from trainyard.runs.planning.estimate import reserve_dollars
from trainyard.secret import Secret
from trainyard.settings.table import StackSettings

RUN = RunId("ann", "a")
LIMIT = StackSettings(limit_day=10.0)


def prepared(run: RunId, dollars: float) -> Reservation:
    return Reservation(run=run, added=dollars, kind="prepared", data={"estimate": dollars})


def test_two_processes_never_pass_a_limit_together(tmp_path: Path) -> None:
    assert problems(tmp_path / "ledger.db", rounds=5, seed=1) == []


def test_two_processes_never_pass_a_limit_together_in_postgres(server: Secret) -> None:
    assert problems(server, rounds=5, seed=1) == []


def test_what_is_refused_leaves_nothing_on_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    reserve_dollars(ledger, LIMIT, prepared(RUN, 6.0))

    with pytest.raises(RefusedError, match=r"limit_day is \$10\.00: \$0\.00 spent, \$6\.00 may still go .*, this run may add \$5\.00"):
        reserve_dollars(ledger, LIMIT, prepared(RunId("bo", "b"), 5.0))
    with pytest.raises(RefusedError, match=r"2 declared pods may add \$5\.00"):
        reserve_dollars(ledger, LIMIT, Reservation(run=RunId("bo", "pods.x"), added=5.0, kind="pods declared", spent=5.0), count=2)

    assert [event.run for event in ledger.events()] == [RUN] and ledger.spent_since(0.0) == 0.0


def test_a_limit_that_only_warns_refuses_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for label in ("a", "b"):
        reserve_dollars(ledger, StackSettings(limit_day=10.0, limit_action="warn"), prepared(RunId("ann", label), 8.0))

    assert ledger.left_of([SpendLimit("limit_day", 10.0, 86_400)])[0].dollars == -6.0


def test_a_longer_lease_replaces_what_was_reserved_and_declared_pods_are_spent(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    reserve_dollars(ledger, LIMIT, prepared(RUN, 4.0))
    reserve_dollars(ledger, LIMIT, Reservation(run=RUN, added=2.0, kind="extended", data={"estimate": 6.0}))
    reserve_dollars(ledger, LIMIT, Reservation(run=RunId("ann", "pods.x"), added=4.0, spent=4.0))

    assert ledger.left_of([SpendLimit("limit_day", 10.0, 86_400)])[0].dollars == 0.0
    assert ledger.spent_since(time.time() - 60) == 4.0
