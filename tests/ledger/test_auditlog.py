"""The audit log: numbers without gaps whoever writes at once, and whatever is changed, removed, moved or cut off is told with its row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from trainyard.ledger import auditlog
from trainyard.ledger.auditlog import AuditFilter, AuditHead, append, head, rows, verify
from trainyard.ledger.copies import backup, restore
from trainyard.ledger.database import Database
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.tables import audit, metadata
from trainyard.secret import Secret

WRITER = (
    "import sys; from pathlib import Path; from trainyard.ledger.database import Database; from trainyard.secret import Secret\n"
    "from trainyard.ledger.auditlog import append\n"
    "place = sys.stdin.readline().strip()\n"
    "at = Secret(place) if place.startswith('postgres') else Path(place)\n"
    "for n in range(12): append(Database(at), 'ann', 'train', f'ann/{sys.argv[1]}/{n}', {'n': n})"
)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Secret:
    """Where a ledger is, empty: a file or a server."""
    if request.param == "sqlite":
        return tmp_path / "ledger.db"
    server: Secret = request.getfixturevalue("server")
    with Database(server).writing() as connection:
        for table in metadata.sorted_tables:
            connection.execute(sa.delete(table))
    return server


@pytest.fixture
def database(place: Path | Secret) -> Database:
    """An audit log of six rows."""
    made = Database(place)
    for n in range(6):
        append(made, "ann", "train", f"ann/r{n}/1", {"hours": n / 3, "what": "ü"})
    return made


def execute(database: Database, *statements: sa.Executable) -> None:
    with database.writing() as connection:
        for statement in statements:
            connection.execute(statement)


def test_processes_that_write_at_once_leave_one_chain_without_gaps(place: Path | Secret) -> None:
    text = place.reveal() if isinstance(place, Secret) else str(place)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(n)], stdin=subprocess.PIPE, text=True) for n in range(2)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(text + "\n")
        writer.stdin.close()

    assert [writer.wait() for writer in writers] == [0, 0]
    proof = verify(Database(place))
    assert (proof.rows, proof.breach) == (24, None)
    assert len({row.subject for row in rows(Database(place), AuditFilter())}) == 24


def test_a_log_as_it_was_written_is_proven_to_its_head(database: Database) -> None:
    proof = verify(database)

    assert (proof.rows, proof.breach, proof.head) == (6, None, head(database))
    assert verify(database, [AuditHead("", 6, proof.head.hash)] if proof.head else []).anchors == 1


@pytest.mark.parametrize("column, value", [
    ("time", 1.0), ("actor", "bo"), ("machine", "x"), ("action", "end"), ("subject", "bo/r3/1"), ("data", "{}"), ("previous", "0" * 64),
    ("hash", "0" * 64),
])  # fmt: skip
def test_a_changed_field_of_any_column_breaks_its_row(tmp_path: Path, column: str, value: object) -> None:
    database = Database(tmp_path / "ledger.db")
    for n in range(6):
        append(database, "ann", "train", f"ann/r{n}/1", {"n": n})
    execute(database, sa.update(audit).where(audit.c.sequence == 4).values({column: value}))

    proof = verify(database)

    assert (proof.rows, proof.breach, proof.at) == (3, "changed", 4)


def test_rows_removed_in_the_middle_or_at_the_begin_are_missed(database: Database) -> None:
    execute(database, sa.delete(audit).where(audit.c.sequence.in_([3, 4])))
    assert (verify(database).breach, verify(database).at) == ("missing", 3)
    execute(database, sa.delete(audit).where(audit.c.sequence == 1))
    assert (verify(database).breach, verify(database).at, verify(database).rows) == ("missing", 1, 0)


def test_a_removed_row_whose_followers_were_moved_up_is_told(database: Database) -> None:
    execute(database, sa.delete(audit).where(audit.c.sequence == 3),
            *(sa.update(audit).where(audit.c.sequence == n).values(sequence=n - 1) for n in (4, 5, 6)))  # fmt: skip
    assert (verify(database).breach, verify(database).at) == ("changed", 3)


def test_two_rows_that_changed_places_are_told(database: Database) -> None:
    move = [sa.update(audit).where(audit.c.sequence == old).values(sequence=new) for old, new in ((2, 99), (3, 2), (99, 3))]
    execute(database, *move)
    assert (verify(database).breach, verify(database).at) == ("changed", 2)


def rewritten(database: Database, number: int) -> None:
    """Change a row and give it the hash that fits, as who knows how it is made would."""
    row = rows(database, AuditFilter())[number - 1]
    forged = auditlog.AuditRow(**{**{name: getattr(row, name) for name in row.__slots__}, "actor": "mallory"})
    execute(database, sa.update(audit).where(audit.c.sequence == number).values(actor="mallory", hash=forged.digest()))


def test_a_changed_row_with_a_new_hash_breaks_at_the_next_and_the_newest_against_its_anchor(database: Database) -> None:
    was = head(database)
    assert was is not None
    rewritten(database, 4)
    assert (verify(database).breach, verify(database).at) == ("unlinked", 5)
    execute(database, sa.delete(audit).where(audit.c.sequence > 4))

    assert verify(database).breach is None  # by itself nothing tells it
    proof = verify(database, [was])
    assert (proof.breach, proof.at, proof.rows) == ("cut off", 5, 4)


def test_a_newest_row_that_was_written_anew_is_told_by_its_anchor(database: Database) -> None:
    was = head(database)
    rewritten(database, 6)
    assert was is not None and (verify(database, [was]).breach, verify(database, [was]).at) == ("other chain", 6)


def test_a_log_that_was_emptied_is_told_by_an_anchor(database: Database) -> None:
    was = head(database)
    execute(database, sa.delete(audit))
    assert was is not None and (verify(database, [was]).breach, verify(database, [was]).rows) == ("cut off", 0)


def test_rows_are_found_by_run_person_action_and_time(database: Database) -> None:
    append(database, "bo", "cancel", "ann/r1/1", {})
    append(database, "bo", "cancel", "ann/r10/1", {})

    def found(**asked: object) -> list[int]:
        return [row.sequence for row in rows(database, AuditFilter(**asked))]  # type: ignore[arg-type]

    assert found(subject="ann/r1") == [2, 7] and found(actor="bo") == [7, 8] and found(action="train", limit=2) == [5, 6]
    assert found(since=2e9) == [] and json.loads(rows(database, AuditFilter(limit=1))[0].data) == {}


def test_no_secret_that_is_known_is_written(tmp_path: Path) -> None:
    database = Database(tmp_path / "ledger.db")
    Secret('s3cr3t-pass"word')
    append(database, "ann", "deliver", "ann/a/1", {"to": ["hub:x", {"deep": 'at s3cr3t-pass"word'}], "at": 's3cr3t-pass"word'})
    text = str(rows(database, AuditFilter()))
    assert "s3cr3t" not in text and "***" in text and verify(database).breach is None


def test_a_backup_goes_on_as_the_same_chain_and_two_chains_are_never_mixed(tmp_path: Path, database: Database) -> None:
    file, anew, other = tmp_path / "copy.db", Ledger(tmp_path / "anew.db"), Ledger(tmp_path / "other.db")
    backup(database, file)
    assert restore(anew.database, file)["audit"] == 6 and restore(anew.database, file)["audit"] == 0
    append(anew.database, "ann", "end", "p", {})
    append(other.database, "bo", "up", "local", {})

    assert verify(anew.database, [one] if (one := head(database)) else []).rows == 7
    assert restore(anew.database, file)["audit"] == 0 and verify(anew.database).rows == 7
    assert restore(other.database, file)["audit of another chain (left out)"] == 6 and verify(other.database).rows == 1
