"""Rows of the queue: of two who change one at once exactly one does, in SQLite and in Postgres."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from trainyard.ledger.database import Database
from trainyard.ledger.queue import NameTaken, QueueEntry, QueueRows
from trainyard.secret import Secret

_ROUNDS = 10


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Secret:
    """Where the queue is."""
    if request.param == "sqlite":
        return tmp_path / "ledger.db"
    url = request.getfixturevalue("server")
    assert isinstance(url, Secret)
    return url


def entry(label: str, **more: object) -> QueueEntry:
    return QueueEntry(
        id=label, user="ann", label=label, stack="dev", recipe="lora", submitted=1.0, submitted_by="ann@m", machine="m", **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_two_workers_and_one_entry_are_exactly_one_run_and_limits_hold_between_them(place: Path | Secret) -> None:
    rows = QueueRows(Database(place))
    names = [f"r{number}" for number in range(_ROUNDS)]
    for name in names:
        rows.add(entry(name), name.encode())
    begin, waiting = Barrier(2), rows.entries()

    def worker(who: str) -> list[str]:
        mine, own = [], QueueRows(Database(place))
        for seen in waiting:
            begin.wait(30)
            if own.take(seen, who, 5.0, lambda begun: len(begun) < _ROUNDS - 2) is not None:
                mine.append(seen.id)
        return mine

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(worker, ("one", "other"))

    assert sorted(one + other) == sorted(names)[: _ROUNDS - 2], "no entry twice, and never more than may be at work"
    for left in rows.entries(over=True):
        assert rows.change(left, state="over", ended=2.0, outcome="succeeded") and rows.content(left.id) is None
    assert rows.entries() == [] and rows.turns() == {"ann": 5.0}


def test_an_entry_moves_to_a_stack_that_has_room_while_it_is_in_its_workers_hands(place: Path | Secret) -> None:
    rows = QueueRows(Database(place))
    for name in ("a", "b"):
        rows.add(entry(name, auto=True), b"")
    waiting = rows.entries()
    assert [(one.asked, one.where) for one in waiting] == [("auto", "auto")] * 2
    first, second = (rows.take(one, "w", 5.0, lambda _: True) for one in waiting)
    assert first is not None and second is not None

    moved = rows.move(first, "vast", lambda others: [one.id for one in others] == ["b"])
    assert moved is not None and rows.entry("a") == moved and (moved.asked, moved.where) == ("auto", "vast")
    assert rows.move(second, "vast", lambda others: all(one.stack != "vast" for one in others)) is None
    assert rows.move(replace(second, worker="another"), "vast", lambda _: True) is None and rows.entry("b") == second


def test_a_name_is_in_the_queue_once_and_what_is_long_over_is_forgotten(place: Path | Secret) -> None:
    rows = QueueRows(Database(place))
    first = entry("again", after=("ann/first",), group="g")
    rows.add(first, b"x")
    with pytest.raises(NameTaken):
        rows.add(entry("again", priority=1), b"y")
    assert rows.entries(group="g") == [first] and rows.content("again") == b"x"

    assert rows.change(first, state="over", ended=2.0) and not rows.change(first, held="late")
    rows.add(replace(first, id="second", submitted=1e8), b"z")
    assert [one.id for one in rows.named("again", "ann")] == ["second"]
    assert rows.change(rows.entries()[0], state="over", ended=3.0)
