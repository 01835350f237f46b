"""The ledger's database: old ones are migrated in place, newer ones refused, SQLite and Postgres answer the same."""

from __future__ import annotations

import contextlib
import logging
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from trainyard.config import Places
from trainyard.errors import Busy, DiskFull, UserError
from trainyard.ledger import database
from trainyard.ledger.ledger import Ledger, open_ledger
from trainyard.ledger.migrations.upgrade import _config, upgrade
from trainyard.ledger.rows import REMOVED, LedgerEvent, RunFilter, RunRow
from trainyard.ledger.runid import RunId
from trainyard.ledger.tables import NEWEST, metadata
from trainyard.secret import Secret

RUN = RunId("ann", "a")
OLD = """
CREATE TABLE events (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, user TEXT NOT NULL, label TEXT NOT NULL, attempt INTEGER NOT NULL,
  kind TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX events_by_run ON events (user, label, attempt, time);
CREATE TABLE costs (
  user TEXT NOT NULL, label TEXT NOT NULL, attempt INTEGER NOT NULL, started REAL NOT NULL, dollars REAL NOT NULL,
  PRIMARY KEY (user, label, attempt));
INSERT INTO events (time, user, label, attempt, kind, data) VALUES
  (5.5, 'ann', 'a', 1, 'prepared', '{"estimate": 2.5}'), (6.5, 'ann', 'a', 1, 'ended', '{"why": "\u00fc"}'),
  (7.0, 'bo', 'b', 2, 'up', '{}');
INSERT INTO costs VALUES ('ann', 'a', 1, 5.0, 1.25), ('bo', 'b', 2, 6.0, 0.5);
"""
"""What the first versions made."""


def old_ledger(path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(OLD)
    return path


def row(label: str = "a", **changes: Any) -> RunRow:
    plain = RunRow(
        user="ann", label=label, attempt=1, token="t", stack="local", cloud="local", recipe="lora", state="succeeded", over=True,
        machine="m", created=100.0, started=None, ended=None, hours=1.0, steps_done=3, steps_planned=9, loss=1.5, learning_rate=0.0001,
        eta=None, estimate=None, cost=0.25, s3_url=None, local_path=None, owed=False, error=None, git_commit=None, changed=100.0,
    )  # fmt: skip
    return replace(plain, **changes)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """An empty ledger, in a file and in a server."""
    if request.param == "sqlite":
        return Ledger(tmp_path / "ledger.db")
    made = Ledger(request.getfixturevalue("server"))
    with made.database.writing() as connection:
        for table in metadata.sorted_tables:
            connection.execute(sa.delete(table))
    return made


def test_a_ledger_of_the_first_versions_is_migrated_in_place_and_nothing_is_lost(tmp_path: Path) -> None:
    ledger = Ledger(old_ledger(tmp_path / "ledger.db"))

    events = ledger.events()

    assert [(event.time, event.run, event.kind, event.data) for event in events] == [
        (5.5, RUN, "prepared", {"estimate": 2.5}),
        (6.5, RUN, "ended", {"why": "ü"}),
        (7.0, RunId("bo", "b", 2), "up", {}),
    ]
    assert len({event.id for event in events}) == 3 and {event.machine for event in events} == {socket.gethostname()}
    assert sum(ledger.costs_since(0.0).values()) == 1.75 and sum(ledger.costs_since(5.5).values()) == 0.5
    ledger.add(RUN, "more")
    assert [event.kind for event in ledger.events(RUN)] == ["prepared", "ended", "more"]


def test_a_migration_that_is_cut_off_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_ledger(tmp_path / "ledger.db")

    def cut() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(socket, "gethostname", cut)
    with pytest.raises(KeyboardInterrupt):
        Ledger(path).events()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*), max(id) FROM events").fetchone() == (3, 3)
        assert {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == {"events", "costs"}

    monkeypatch.undo()
    assert len(Ledger(path).events()) == 3


def test_a_ledger_of_a_newer_version_is_refused_with_what_to_do_and_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.add(RUN, "up")
    with ledger.database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")

    with pytest.raises(UserError, match=r"is of a newer version of Trainyard .*0999, this one knows") as told:
        ledger.add(RUN, "ended")

    assert "upgrade" in str(told.value)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        assert db.execute("SELECT kind FROM events").fetchall() == [("up",)]


def test_the_migrations_end_in_the_tables_that_the_code_knows(ledger: Ledger) -> None:
    with ledger.database.writing() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
        upgrade(connection)
        migrations = MigrationContext.configure(connection, opts={"compare_type": True})
        assert migrations.get_current_revision() == NEWEST
        assert compare_metadata(migrations, metadata) == []


@pytest.mark.parametrize("revision", ["0002"])
def test_a_ledger_of_each_migration_is_brought_to_the_newest_and_keeps_its_rows(ledger: Ledger, revision: str) -> None:
    ledger.add(RUN, "up")
    ledger.put_run(row())
    events, rows = ledger.events(), ledger.runs()
    with ledger.database.writing() as connection:
        kept = {name: [dict(one._mapping) for one in connection.execute(sa.select(metadata.tables[name]))] for name in ("events", "runs")}
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for name, values in kept.items():
            connection.execute(sa.insert(metadata.tables[name]), values)

    assert (ledger.events(), ledger.runs()) == (events, rows)
    with ledger.database.reading() as connection:
        migrations = MigrationContext.configure(connection, opts={"compare_type": True})
        assert migrations.get_current_revision() == NEWEST and compare_metadata(migrations, metadata) == []


def test_alembic_is_loaded_for_an_old_ledger_only(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from trainyard.ledger.ledger import Ledger; "
        "Ledger(Path(sys.argv[1])).events(); print('alembic' in sys.modules)"
    )
    Ledger(old_ledger(tmp_path / "old.db")).events()  # this process has Alembic for it
    said = subprocess.run([sys.executable, "-c", program, tmp_path / "old.db"], capture_output=True, text=True, check=True).stdout

    assert said == "False\n"


def test_events_come_back_in_their_order_and_each_is_taken_once(ledger: Ledger) -> None:
    ledger.add(RUN, "up", pod="p")
    earlier = LedgerEvent(5.0, RunId("bo", "b"), "prepared", {"n": 1}, "elsewhere", "0" * 32)
    for _ in range(2):
        ledger.take([earlier], mirrored=True)

    assert [(event.kind, event.data) for event in ledger.events()] == [("prepared", {"n": 1}), ("up", {"pod": "p"})]
    assert ledger.events(RunId("bo", "b")) == [earlier] and ledger.events(kind="up", since=6.0)[0].run == RUN


def test_a_row_is_replaced_by_what_is_newer_and_by_nothing_older(ledger: Ledger) -> None:
    ledger.put_run(row(state="up", over=False, changed=5.0))
    ledger.put_run(row(state="ended", changed=7.0))
    ledger.put_run(row(state="late", changed=6.0))

    assert [one.state for one in ledger.runs()] == ["ended"] and ledger.changes([RUN, RunId("no", "such")], "m") == {RUN: 7.0}
    assert ledger.changes([RUN], "another") == {}
    many = [RUN, *(RunId("no", f"such{number}") for number in range(5_000))]
    assert ledger.changes(many, "m")[RUN] == 7.0 and RUN not in ledger.changes(many, "another")
    ledger.remove_run(RUN, "t")
    assert ledger.runs() == []


def test_runs_are_filtered_and_the_newest_are_taken(ledger: Ledger) -> None:
    states = ("succeeded", "failed", "failed, not ended", "up")
    ledger.put_runs([
        row(f"r{n}", created=float(n), state=state, over=n < 2, stack="lab" if n else "local") for n, state in enumerate(states)
    ])  # fmt: skip

    def found(**asked: Any) -> list[str]:
        return [one.label for one in ledger.runs(RunFilter(**asked))]

    assert found() == ["r0", "r1", "r2", "r3"] and found(limit=2) == ["r2", "r3"]
    assert found(stack="lab", limit=1) == ["r3"] and found(since=2.0) == ["r2", "r3"]
    assert found(state="failed") == ["r1", "r2"] and found(state="live") == ["r2", "r3"] and found(state="over") == ["r0", "r1"]
    assert found(user="bo") == [] and found(recipe="lora", state="up") == ["r3"]
    assert ledger.count(RunFilter(state="failed", limit=1)) == 2


def test_a_cost_is_kept_once_for_each_attempt(ledger: Ledger) -> None:
    for dollars in (1.0, 2.5):
        ledger.set_cost(RUN, 5.0, dollars)
    ledger.set_cost(RunId("ann", "a", 2), 9.0, 0.5)

    assert sum(ledger.costs_since(0.0).values()) == 3.0 and sum(ledger.costs_since(6.0).values()) == 0.5


def test_processes_that_begin_a_ledger_together_lose_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from trainyard.ledger.ledger import Ledger; from trainyard.ledger.runid import RunId\n"
        "sys.stdin.read()\n"
        "for n in range(20): Ledger(Path(sys.argv[1])).add(RunId('ann', 'a'), sys.argv[2])"
    )
    path = tmp_path / "ledger.db"
    writers = [subprocess.Popen([sys.executable, "-c", program, path, str(n)], stdin=subprocess.PIPE) for n in range(2)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()

    assert [writer.wait() for writer in writers] == [0, 0]
    assert sorted(event.kind for event in Ledger(path).events()) == ["0"] * 20 + ["1"] * 20


def test_connections_that_begin_a_servers_ledger_together_lose_nothing(server: Secret) -> None:
    ledger = Ledger(server)
    with ledger.database.writing() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")

    def write(kind: str) -> None:
        for _ in range(20):
            Ledger(server).add(RUN, kind)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "0123"))
    assert sorted(event.kind for event in ledger.events()) == ["0"] * 20 + ["1"] * 20 + ["2"] * 20 + ["3"] * 20


def test_a_ledger_that_another_process_holds_is_busy_and_can_still_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.add(RUN, "up")
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="another process holds the ledger"):
            ledger.add(RUN, "ended")
        assert len(ledger.events()) == 1


def test_a_table_of_a_server_that_another_session_locks_is_waited_for_no_longer_than_is_said(server: Secret) -> None:
    Ledger(server).add(RUN, "up")
    with Ledger(server).database.writing() as other:
        other.exec_driver_sql("LOCK TABLE events")
        with pytest.raises(UserError, match="lock timeout"):
            Ledger(server, 0.1).add(RUN, "ended")


def test_the_end_of_a_password_with_an_at_sign_is_never_called_a_host() -> None:
    with pytest.raises(UserError, match="second @") as refusal:
        Ledger(Secret("postgresql://ann:very@secret@127.0.0.1/db"))
    assert "secret" not in str(refusal.value) and "%40" in str(refusal.value.hint)


def test_a_full_disk_is_said_as_such_and_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.add(RUN, "up")
    prepare = database._prepare

    def full(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA max_page_count = 1")  # SQLite's own word for a disk with no room

    monkeypatch.setattr(database, "_prepare", full)
    with pytest.raises(DiskFull):
        Ledger(tmp_path / "ledger.db").add(RUN, "ended", much="x" * 100_000)
    monkeypatch.undo()
    assert [event.kind for event in Ledger(tmp_path / "ledger.db").events()] == ["up"]


def test_the_journal_of_a_damaged_ledger_is_moved_away_with_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"no database at all" * 100)
    path.with_name("ledger.db-shm").write_bytes(b"x")

    with pytest.raises(UserError) as told:
        Ledger(path).events()

    command = str(told.value).rpartition("then count: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    assert {entry.name for entry in tmp_path.iterdir()} == {"ledger.db.damaged", "ledger.db.damaged-shm"}
    assert Ledger(path).events() == []


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[str], Ledger]:
    """The ledger that a value of TRAINYARD_LEDGER means."""
    at = Places(tmp_path, tmp_path, tmp_path, tmp_path)
    return lambda value: open_ledger({"TRAINYARD_LEDGER": value}, at)


def test_no_message_shows_the_password_of_a_ledger(asked: Callable[[str], Ledger]) -> None:
    for value in (
        "postgresql://ann:s3cr3tpass@127.0.0.1:9/runs",
        "mysql://ann:s3cr3tpass@h/d",
        "s3cr3tpass words",
        "postgresql://ann:s3cr3tpass@[",
    ):
        with pytest.raises(UserError) as told:
            asked(value).events()
        assert "s3cr3tpass" not in f"{told.value}{told.value!r}{told.value.__cause__}"
    with pytest.raises(UserError, match=r"postgresql://127\.0\.0\.1/runs: the ledger cannot be used"):
        asked("postgresql://ann:s3cr3tpass@127.0.0.1:9/runs").events()


def test_without_the_variable_the_ledger_is_the_file(asked: Callable[[str], Ledger], tmp_path: Path) -> None:
    assert asked("").database.path == tmp_path / "ledger.db"


def test_without_its_driver_a_ledger_in_postgres_names_the_command_that_brings_it(
    asked: Callable[[str], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(UserError, match="needs the package 'psycopg'") as told:
        asked("postgresql://ann@127.0.0.1/runs").events()

    assert "trainyard[postgres]" in str(told.value)


def test_what_another_has_removed_takes_no_run_of_the_same_name_with_another_token(ledger: Ledger) -> None:
    """Two checkouts without a common bucket may give one name to two runs."""
    mine, theirs = row(token="mine"), row(token="theirs")
    ledger.put_runs([mine, theirs])
    gone = LedgerEvent(9.0, RUN, REMOVED, {"token": "theirs"}, "other")

    ledger.fold([gone], [theirs])
    assert [one.token for one in ledger.runs()] == ["mine"]
    ledger.fold([LedgerEvent(9.5, RUN, "late", {}, "other")], [theirs])
    assert [one.token for one in ledger.runs()] == ["mine"], "what comes late does not bring it back"


def test_bills_are_asked_for_of_rented_runs_that_are_over_until_one_is_whole(ledger: Ledger) -> None:
    rented: dict[str, Any] = dict(cloud="runpod", over=True, cost=1.0, created=100.0)
    others: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"over": False},
        "c": {"cloud": "local"},
        "d": {"created": 1.0},
        "e": {"created": 200.0},
    }
    ledger.put_runs([row(label, **{**rented, **changes}) for label, changes in others.items()])
    assert [run.label for run in ledger.unbilled("billed", 50.0, 9)] == ["e", "a"]
    ledger.add(RunId("ann", "e"), "billed", dollars=1.0, whole=False)
    ledger.add(RunId("ann", "a"), "billed", dollars=1.0, whole=True)
    assert [run.label for run in ledger.unbilled("billed", 50.0, 9)] == ["e"]


def test_a_ctrl_c_while_a_connection_is_closed_shows_no_traceback_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    ledger = database.Database(tmp_path / "ledger.db")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as it is where no test is run
    with monkeypatch.context() as closing, pytest.raises(KeyboardInterrupt), ledger.reading() as connection:
        closing.setattr(connection.dialect, "do_close", interrupted)
    assert "Traceback" not in capsys.readouterr().err
