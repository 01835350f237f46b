"""Quotas of accounts and teams hold in the transaction that spends: of many at once no more get through than there is room for."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard.ledger.accounts import AccountRows, ServerAccount, Team
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.queue import QueueEntry, QueueRows, QuotaReached
from trainyard.ledger.rows import Reservation
from trainyard.ledger.runid import RunId


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """With a team of two, and one of nobody's."""
    ledger = Ledger(tmp_path / "ledger.db")
    rows = AccountRows(ledger.database)
    rows.put_team(Team(name="blue", created=0.0, month_dollars=30.0, live_runs=3))
    for name, team, dollars, live in (("ann", "blue", 20.0, 2), ("bob", "blue", None, None), ("eve", None, None, None)):
        rows.put(ServerAccount(name=name, role="run", team=team, created=0.0, month_dollars=dollars, live_runs=live))
    return ledger


def reserve(ledger: Ledger, user: str, label: str, dollars: float) -> list[str]:
    passed = ledger.reserve(Reservation(run=RunId(user, label), added=dollars, kind="prepared", data={"estimate": dollars}), [])
    return [rest.limit.name for rest in passed]


def test_dollars_of_an_account_and_of_its_team_are_kept(ledger: Ledger) -> None:
    assert reserve(ledger, "ann", "a", 15.0) == []
    assert reserve(ledger, "ann", "b", 6.0) == ["the quota per month of account ann"]
    assert reserve(ledger, "bob", "a", 16.0) == ["the quota per month of team blue"]
    assert reserve(ledger, "bob", "a", 15.0) == []
    assert reserve(ledger, "ann", "c", 0.5) == ["the quota per month of team blue"]
    assert reserve(ledger, "eve", "a", 1000.0) == [] == reserve(ledger, "nobody", "a", 1000.0)


def test_what_is_over_and_cost_less_leaves_room(ledger: Ledger) -> None:
    assert reserve(ledger, "ann", "a", 20.0) == []
    ledger.end(RunId("ann", "a"), 1e9, 2.0)
    assert reserve(ledger, "ann", "b", 20.0) == []


def test_of_many_that_reserve_at_once_no_more_get_through_than_the_quota_has_room_for(ledger: Ledger) -> None:
    passed: list[list[str]] = []
    threads = [threading.Thread(target=lambda n=n: passed.append(reserve(ledger, "bob", f"r{n}", 10.0))) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed.count([]) == 3


def test_runs_that_wait_or_are_at_work_are_counted_of_an_account_and_of_its_team(ledger: Ledger) -> None:
    rows = QueueRows(ledger.database)
    usual = QueueEntry(id="0", user="ann", label="a", stack="local", recipe="command", submitted=1e9, submitted_by="x", machine="m")

    def add(number: int, user: str) -> None:
        rows.add(replace(usual, id=str(number), user=user, label=f"r{number}"), b"")

    add(1, "ann")
    add(2, "ann")
    with pytest.raises(QuotaReached, match="account ann may have 2 runs"):
        add(3, "ann")
    add(4, "bob")
    with pytest.raises(QuotaReached, match="team blue may have 3 runs"):
        add(5, "bob")
    for number in range(6, 16):
        add(number, "eve")

    first = rows.entry("1")
    assert first is not None and rows.change(first, state="over", ended=1e9)
    add(5, "bob")
