"""Quotas of accounts and teams: asked inside the transaction that reserves or submits, so that of two runs at once one is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from trainyard.ledger.database import Database
from trainyard.ledger.limits import SpendLimit
from trainyard.ledger.tables import accounts, queue, teams

_MONTH = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class RunQuota:
    """So many runs of some users may wait or be at work at once."""

    name: str
    users: tuple[str, ...]
    most: int


def dollar_quotas(connection: sa.Connection, user: str) -> list[SpendLimit]:
    """Return what the account of a run's user, and its team, may spend in 30 days; nothing where there is no such account."""
    return [
        SpendLimit(f"the quota per month of {name}", row.month_dollars, _MONTH, users=users)
        for name, row, users in _of(connection, user)
        if row.month_dollars is not None
    ]


def quotas_of(database: Database, user: str) -> list[SpendLimit]:
    """Return the same outside of any transaction: for whoever only looks."""
    with database.reading() as connection:
        return dollar_quotas(connection, user)


def _run_quotas(connection: sa.Connection, user: str) -> list[RunQuota]:
    """Return how many runs the account of a user, and its team, may have in the queue that are not over."""
    return [RunQuota(name, users, row.live_runs) for name, row, users in _of(connection, user) if row.live_runs is not None]


def passed_quota(connection: sa.Connection, user: str) -> RunQuota | None:
    """Return the quota that one more run in the queue would pass."""
    for quota in _run_quotas(connection, user):
        query = sa.select(sa.func.count()).select_from(queue).where(queue.c.state != "over", queue.c.user.in_(quota.users))
        if int(connection.execute(query).scalar() or 0) >= quota.most:
            return quota
    return None


def _of(connection: sa.Connection, user: str) -> Iterator[tuple[str, sa.Row[Any], tuple[str, ...]]]:
    """Yield what has quotas for a user: its name, its row, and whose runs count."""
    account = connection.execute(sa.select(accounts).where(accounts.c.name == user)).first()
    if account is None:
        return
    yield f"account {user}", account, (user,)
    team = connection.execute(sa.select(teams).where(teams.c.name == account.team)).first() if account.team else None
    if team is not None:
        members = connection.execute(sa.select(accounts.c.name).where(accounts.c.team == team.name).order_by(accounts.c.name)).scalars()
        yield f"team {team.name}", team, tuple(members)
