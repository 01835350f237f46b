"""A key stands for one run, whoever takes it at once; after a day, or where its run came to nothing, it is free."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from trainyard.ledger import keys
from trainyard.ledger.database import Database
from trainyard.ledger.keys import KeyTaken, StartKey, holds_key, key_row
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.rows import Reservation
from trainyard.ledger.runid import RunId
from trainyard.ledger.tables import metadata
from trainyard.secret import Secret

START = StartKey(key="nightly", verb="train", user="ann", request={"--set lr": "1", "--stack": "2"})
TAKER = """
import sys; from pathlib import Path
from trainyard.ledger.keys import KeyTaken, StartKey; from trainyard.ledger.ledger import Ledger
from trainyard.ledger.rows import Reservation; from trainyard.ledger.runid import RunId; from trainyard.secret import Secret
place, me = sys.stdin.readline().strip(), sys.argv[1]
ledger = Ledger(Secret(place) if place.startswith("postgres") else Path(place))
won = []
for n in range(4):
    start = StartKey(key=f"k{n}", verb="train", user="ann", request={})
    try:
        ledger.reserve(Reservation(run=RunId("ann", f"{me}{n}"), added=1.0, kind="prepared", key=start, token=me), [])
        won.append(n)
    except KeyTaken:
        pass
print(*won)
"""


def reservation(label: str, token: str, start: StartKey = START) -> Reservation:
    return Reservation(run=RunId("ann", label), added=1.0, kind="prepared", key=start, token=token)


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_of_processes_that_take_a_key_at_once_one_gets_it(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place: Path | Secret = tmp_path / "ledger.db"
    if where == "postgres":
        place = request.getfixturevalue("server")
        with Database(place).writing() as connection:
            for table in metadata.sorted_tables:
                connection.execute(sa.delete(table))
    text = place.reveal() if isinstance(place, Secret) else str(place)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen([sys.executable, "-c", TAKER, me], **pipes) for me in "ab"]  # type: ignore[call-overload]
    for taker in takers:
        taker.stdin.write(text + "\n")
        taker.stdin.flush()
    won = [taker.communicate()[0].split() for taker in takers]

    assert sorted(won[0] + won[1]) == [str(n) for n in range(4)]
    events = Ledger(place).events(kind="prepared")
    assert len(events) == 4  # who lost has reserved nothing
    assert {f"{row.run.label}" for n in range(4) if (row := key_row(Database(place), f"k{n}"))} == {event.run.label for event in events}


def test_a_key_gives_its_run_and_is_free_after_a_day_or_for_what_replaces_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.reserve(reservation("a", "t1"), [])
    ledger.reserve(reservation("a", "t1"), [])  # the same run again

    with pytest.raises(KeyTaken, match="stands for run ann/a by now"):
        ledger.reserve(reservation("b", "t2"), [])
    row = key_row(ledger.database, "nightly")
    assert row is not None and (row.run, row.token, START.differs_from(row)) == (RunId("ann", "a"), "t1", [])

    ledger.reserve(reservation("b", "t2", replace(START, replaces="t1")), [])
    assert holds_key(ledger.database, "nightly", "t2") and not holds_key(ledger.database, "nightly", "t1")
    monkeypatch.setattr(keys, "LIFE", 0.0)
    assert key_row(ledger.database, "nightly") is None
    ledger.reserve(reservation("c", "t3"), [])
    assert holds_key(ledger.database, "nightly", "t3") and holds_key(ledger.database, "another", "t1")


def test_what_differs_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.reserve(reservation("a", "t1"), [])
    row = key_row(ledger.database, "nightly")

    assert row is not None
    assert replace(START, request={"--set lr": "9", "--hours": "2"}).differs_from(row) == ["--hours", "--set lr", "--stack"]
    assert replace(START, verb="rerun").differs_from(row) == ["the command (train, now rerun)"]
