"""A server that takes connections and says nothing, or stops in the middle, is given up in seconds and not asked again at once."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from trainyard.errors import UserError
from trainyard.ledger import server as servers
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.runid import RunId
from trainyard.secret import Secret

RUN = RunId("ann", "a")


@pytest.fixture
def mute() -> Iterator[Secret]:
    """The URL of a socket that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Secret(f"postgresql://ann:passw0rd-x@127.0.0.1:{listening.getsockname()[1]}/runs")


def test_a_server_that_says_nothing_is_given_up_and_left_alone_for_a_while(mute: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "CONNECT", 2)
    began = time.monotonic()
    with pytest.raises(UserError, match="cannot be used"):
        Ledger(mute, 1.0).add(RUN, "ended")
    first = time.monotonic() - began
    for _ in range(20):
        with pytest.raises(UserError, match="has not answered a moment ago"):
            Ledger(mute, 1.0).add(RUN, "ended")

    assert first < 10 and time.monotonic() - began - first < 1


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_server_that_is_frozen_with_an_open_connection_is_given_up(server: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "SILENCE", 0.5)
    monkeypatch.setattr(servers, "CONNECT", 2)
    ledger = Ledger(Secret(f"{server.reveal()}&application_name=frozen"), 0.2)
    with ledger.database.writing() as connection:
        backend = int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar() or 0)
    stopped = [backend, parent(backend)]  # its kernel goes on taking connections
    try:
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        began = time.monotonic()
        for _ in range(5):
            with pytest.raises(UserError, match=r"cannot be used: .*(timeout expired|said nothing|has not answered a moment ago)"):
                ledger.add(RUN, "ended")
        assert time.monotonic() - began < 10
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)

    servers.server_of(ledger.database._url).silent_until = 0.0
    ledger.add(RUN, "ended")
    assert [event.kind for event in ledger.events(RUN)][-1] == "ended"


def test_a_frozen_connection_alone_is_replaced(server: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "SILENCE", 0.5)
    ledger = Ledger(server, 0.2)
    with ledger.database.writing() as connection:
        backend = int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar() or 0)
    os.kill(backend, signal.SIGSTOP)
    try:
        ledger.add(RUN, "again")
    finally:
        os.kill(backend, signal.SIGCONT)
    assert [event.kind for event in ledger.events(RUN)][-1] == "again"


def test_a_process_that_was_forked_opens_a_connection_of_its_own(server: Secret) -> None:
    ledger, backend = Ledger(server), sa.text("SELECT pg_backend_pid()")

    def mine() -> int:
        with ledger.database.reading() as connection:
            return int(connection.execute(backend).scalar() or 0)

    before = mine()
    child = os.fork()
    if child == 0:
        os._exit(1 if mine() == before else 0)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and mine() == before
