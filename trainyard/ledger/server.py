"""A ledger's Postgres as this process talks to it: one engine, no wait without an end, and none at all soon after a silence."""

from __future__ import annotations

import atexit
import functools
import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from trainyard.errors import UserError

CONNECT = 5
"""Seconds in which a server has to take a connection."""
SILENCE = 5.0
"""Seconds beyond the wait for locks in which a statement has to be answered."""
_LEFT_ALONE = 30.0
"""Seconds after a silence in which it is not asked again: what a run writes down must not wait for each row anew."""


@dataclass(slots=True)
class LedgerServer:
    """One server, for all ledgers of this process that are there."""

    engine: sa.Engine
    silent_until: float = 0.0

    def is_silent(self) -> bool:
        """Tell whether it has just not answered."""
        return time.monotonic() < self.silent_until

    def note(self, error: BaseException) -> None:
        """Leave it alone for a while after an error that is a silence."""
        from psycopg.errors import ConnectionTimeout

        if isinstance(error, ConnectionTimeout):
            self.silent_until = time.monotonic() + _LEFT_ALONE


@functools.cache
def server_of(url: sa.URL) -> LedgerServer:
    """Return a server by its URL: a new connection costs more than what is asked over it. Raises UserError without its driver."""
    # A host that has gone is told by the kernel, one that is frozen by bounded(); each leaves the other out.
    options = {
        "connect_timeout": CONNECT,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
    try:
        engine = sa.create_engine(url, pool_size=1, pool_pre_ping=True, connect_args=options, hide_parameters=True)
    except ModuleNotFoundError:
        raise UserError(
            "a ledger in Postgres needs the package 'psycopg', which this Python does not have",
            hint="In a checkout: ./bootstrap. Elsewhere: pipx install --force 'trainyard[postgres]', or the same with pip or uv.",
        ) from None
    event.listen(engine, "do_connect", _connect)
    atexit.register(engine.dispose)
    # Two processes on one connection would read each other's answers: who was forked opens its own.
    os.register_at_fork(after_in_child=functools.partial(engine.dispose, close=False))
    return LedgerServer(engine)


def bound(connection: sa.Connection, patience: float) -> None:
    """Let no statement of a connection wait longer than its locks may be waited for, and SILENCE."""
    driver: Any = connection.connection.driver_connection
    driver.silence = patience + SILENCE


@functools.cache
def _bounded() -> type[Any]:
    """Return psycopg's connection, whose every wait has an end: the server's process may be stopped while its kernel goes on."""
    import psycopg

    class BoundedConnection(psycopg.Connection[Any]):
        silence = SILENCE

        def wait(self, gen: Generator[Any, Any, Any], *more: Any, **options: Any) -> Any:
            try:
                return super().wait(_until(gen, time.monotonic() + self.silence), *more, **options)
            except _Silent:
                self.pgconn.finish()  # an answer that comes late must not be taken for another's
                raise psycopg.errors.ConnectionTimeout(f"the server has said nothing for {self.silence:g} s") from None

    return BoundedConnection


class _Silent(Exception):
    pass


def _until(gen: Generator[Any, Any, Any], end: float) -> Generator[Any, Any, Any]:
    """Pass on what a wait of psycopg's says and hears; it hears "not ready" several times a second."""
    ready = None
    while True:
        try:
            says = gen.send(ready)
        except StopIteration as done:
            return done.value
        ready = yield says
        if not ready and time.monotonic() > end:
            raise _Silent


def _connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Any:
    return _bounded().connect(*arguments, **options)
