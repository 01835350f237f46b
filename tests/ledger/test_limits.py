"""Limits are held when several processes reserve at once, and what is refused leaves nothing on the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.limits import problems
from trainyard.errors import RefusedError
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.limits import SpendLimit
from trainyard.ledger.rows import Reservation
from trainyard.ledger.runid import RunId
from trainyard.runs.planning.limits import limits_of, reserve_dollars
from trainyard.secret import Secret
from trainyard.settings.table import StackSettings

RUN = RunId("ann", "a")


def limits(*blocks: Mapping[str, object], **settings: Any) -> list[SpendLimit]:
    return limits_of(StackSettings(limits=blocks, **settings), stack="east", user="ann")


LIMIT = limits(limit_day=10.0)


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

    assert [event.run for event in ledger.events()] == [RUN] and sum(ledger.costs_since(0.0).values()) == 0.0


def test_a_limit_that_only_warns_refuses_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for label in ("a", "b"):
        reserve_dollars(ledger, limits(limit_day=10.0, limit_action="warn"), prepared(RunId("ann", label), 8.0))

    assert ledger.left_of([SpendLimit("limit_day", 10.0, 86_400)])[0].dollars == -6.0


def test_a_longer_lease_replaces_what_was_reserved_and_declared_pods_are_spent(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    reserve_dollars(ledger, LIMIT, prepared(RUN, 4.0))
    reserve_dollars(ledger, LIMIT, Reservation(run=RUN, added=2.0, kind="extended", data={"estimate": 6.0}))
    reserve_dollars(ledger, LIMIT, Reservation(run=RunId("ann", "pods.x"), added=4.0, spent=4.0))

    assert ledger.left_of([SpendLimit("limit_day", 10.0, 86_400)])[0].dollars == 0.0
    assert sum(ledger.costs_since(time.time() - 60).values()) == 4.0


@pytest.mark.parametrize(
    ("limit", "others", "says"),
    [
        ({"per": "day", "of": "user"}, RunId("bo", "b"), "the limit per day of user ann is $10.00: $3.00 spent, $4.00 may still go"),
        ({"per": "week", "of": "stack"}, RunId("bo", "west"), "the limit per week of stack east is $10.00"),
        ({"per": "run"}, RunId("ann", "other"), "the limit per run is $10.00"),
    ],
)
def test_a_limit_counts_the_runs_that_it_is_of_and_no_others(limit: Mapping[str, object], others: RunId, says: str, tmp_path: Path) -> None:
    ledger, held = Ledger(tmp_path / "ledger.db"), limits({"amount": 10, **limit})
    for run, stack in ((RUN, "east"), (others, "west")):
        past = RunId(run.user, run.label, 1)
        ledger.add(past, "prepared", estimate=3.0, stack=stack)
        ledger.set_cost(past, time.time(), 3.0)
        ledger.add(past, "ended", cost=3.0)
        ledger.add(RunId(run.user, run.label, 2), "prepared", estimate=4.0, stack=stack)

    third = RunId("ann", "a", 3)
    with pytest.raises(RefusedError) as caught:
        reserve_dollars(ledger, held, Reservation(run=third, added=3.01, kind="prepared", data={"estimate": 3.01, "stack": "east"}))
    assert caught.value.message.startswith(says)
    reserve_dollars(ledger, held, Reservation(run=third, added=3.0, kind="prepared", data={"estimate": 3.0, "stack": "east"}))
    assert ledger.left_of(held, third)[0].dollars == pytest.approx(0.0)


def test_of_a_removed_run_what_it_cost_still_counts_for_its_stack(tmp_path: Path) -> None:
    ledger, held = Ledger(tmp_path / "ledger.db"), limits({"amount": 10, "per": "month", "of": "stack"})
    ledger.add(RUN, "prepared", estimate=3.0, stack="west")
    ledger.set_cost(RUN, time.time(), 3.0)
    ledger.add(RUN, "ended", cost=3.0)
    assert ledger.left_of(held)[0].spent == 0.0, "it is of another stack, which only its event tells"

    nobody = RunId("ann", "old")
    ledger.set_cost(nobody, time.time(), 2.0)
    assert ledger.left_of(held)[0].spent == 2.0, "whose stack nobody knows counts for each"


def test_a_limit_can_be_filled_to_the_cent(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for attempt, dollars in enumerate((0.1, 0.2, 9.7), start=1):
        reserve_dollars(ledger, LIMIT, prepared(RunId("ann", "a", attempt), dollars))

    with pytest.raises(RefusedError):
        reserve_dollars(ledger, LIMIT, prepared(RunId("ann", "a", 4), 0.000001))


def first_of_many(place: Path | Secret) -> list[bool]:
    with ThreadPoolExecutor(4) as pool:
        return sorted(pool.map(lambda _: Ledger(place).tell_share(RUN, "limit", 80, limit="limit_day"), range(8)))


def test_of_all_who_see_a_share_at_once_one_tells_it(tmp_path: Path) -> None:
    assert first_of_many(tmp_path / "ledger.db") == [False] * 7 + [True]


def test_of_all_who_see_a_share_at_once_in_postgres_one_tells_it(server: Secret) -> None:
    assert first_of_many(server) == [False] * 7 + [True]


def test_a_share_of_another_run_or_limit_is_another_and_a_larger_one_is_news(tmp_path: Path) -> None:
    ledger, told = Ledger(tmp_path / "ledger.db"), Ledger(tmp_path / "ledger.db").tell_share
    assert told(RUN, "budget", 50, same=("user", "label", "attempt")) and not told(RUN, "budget", 50, same=("user", "label", "attempt"))
    assert told(RunId("ann", "a", 2), "budget", 50, same=("user", "label", "attempt"))
    assert not told(RunId("ann", "a", 3), "budget", 50, same=("user", "label")) and told(RUN, "budget", 80, same=("user", "label"))
    assert [event.data for event in ledger.events()] == [{"share": 50}, {"share": 50}, {"share": 80}]
