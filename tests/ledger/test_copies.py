"""Backups of the ledger: one file of everything, taken in again without losing what came meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.ledger.test_database import RUN, old_ledger, row
from trainyard.errors import UserError
from trainyard.ledger import copies
from trainyard.ledger.copies import backup, restore
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.rows import REMOVED, LedgerEvent
from trainyard.ledger.runid import RunId
from trainyard.ledger.tables import metadata
from trainyard.secret import Secret

NONE = dict.fromkeys(metadata.tables, 0)


def filled(ledger: Ledger) -> Ledger:
    ledger.add(RUN, "up", pod="p")
    ledger.take([LedgerEvent(float(n), RUN, "checkpoint", {}, "m") for n in range(5)], mirrored=True)
    ledger.set_cost(RUN, 5.0, 1.5)
    ledger.put_runs([row(), row("b")])
    return ledger


def test_a_backup_holds_all_and_a_lost_ledger_is_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_TOGETHER", 2)
    ledger, file = filled(Ledger(tmp_path / "ledger.db")), tmp_path / "copy.db"

    assert backup(ledger.database, file) == {**NONE, "costs": 1, "events": 6, "runs": 2}
    anew = Ledger(tmp_path / "anew.db")
    assert restore(anew.database, file) == {**NONE, "costs": 1, "events": 6, "runs": 2}

    assert anew.events() == ledger.events() and anew.runs() == ledger.runs() and sum(anew.costs_since(0.0).values()) == 1.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anew.db", "copy.db", "ledger.db"]


def test_what_the_ledger_holds_stays_when_a_backup_is_taken_in(tmp_path: Path) -> None:
    ledger, file = filled(Ledger(tmp_path / "ledger.db")), tmp_path / "copy.db"
    backup(ledger.database, file)
    ledger.set_cost(RUN, 5.0, 9.0)
    ledger.remove_run(RunId("ann", "b"), "t")
    ledger.add(RUN, "ended")

    assert restore(ledger.database, file) == {**NONE, "runs": 1}
    assert sum(ledger.costs_since(0.0).values()) == 9.0 and ledger.events()[-1].kind == "ended" and len(ledger.runs()) == 2


def test_a_run_that_was_removed_since_does_not_come_back_with_a_backup(tmp_path: Path) -> None:
    ledger, file, gone = filled(Ledger(tmp_path / "ledger.db")), tmp_path / "copy.db", RunId("ann", "b")
    backup(ledger.database, file)
    ledger.add(gone, REMOVED, token="t")
    ledger.remove_run(gone, "t")
    left = ledger.runs()

    assert restore(ledger.database, file) == NONE and ledger.runs() == left and len(left) == 1


def test_a_ledger_moves_from_a_server_to_a_file_and_back(tmp_path: Path, server: Secret) -> None:
    ledger, file = Ledger(server), tmp_path / "copy.db"
    with ledger.database.writing() as connection:
        for table in metadata.sorted_tables:
            connection.execute(sa.delete(table))
    assert backup(filled(ledger).database, file) == {**NONE, "costs": 1, "events": 6, "runs": 2}
    was = ledger.events()
    with ledger.database.writing() as connection:
        connection.execute(sa.text("DELETE FROM events"))
    assert restore(ledger.database, file) == {**NONE, "events": 6} and ledger.events() == was


def test_a_ledger_of_the_first_versions_is_taken_in_and_stays_as_it_is(tmp_path: Path) -> None:
    old = old_ledger(tmp_path / "old.db")
    was, ledger = old.read_bytes(), Ledger(tmp_path / "ledger.db")

    assert restore(ledger.database, old) == {**NONE, "costs": 2, "events": 3} and old.read_bytes() == was


def test_what_is_no_backup_is_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    ledger = filled(Ledger(tmp_path / "ledger.db"))
    (tmp_path / "text").write_text("hello " * 1000)
    (tmp_path / "empty").touch()
    for name, says in (("text", "is no ledger"), ("empty", "is no ledger"), ("missing", "there is no file")):
        with pytest.raises(UserError, match=says):
            restore(ledger.database, tmp_path / name)
    with pytest.raises(UserError, match="is there already"):
        backup(ledger.database, tmp_path / "text")
    with pytest.raises(UserError, match="is no folder"):
        backup(ledger.database, tmp_path / "no" / "copy.db")
    assert (tmp_path / "text").read_text().startswith("hello")
