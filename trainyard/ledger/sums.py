"""What is spent and what is committed of a limit, inside the transaction that asks.

A run whose stack nobody knows any more counts for every stack: a limit is rather reached too early.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from trainyard.clouds.marker import LONGEST_LEASE
from trainyard.jsontext import parse_json
from trainyard.ledger import tables
from trainyard.ledger.limits import LimitRest, SpendLimit
from trainyard.ledger.runid import RunId

RESERVING = ("prepared", "adopted", "extended")
"""Kinds of events that tell what a run may come to, its ``estimate``; one of kind ``ended`` ends that."""
_TOGETHER = 500
"""Keys that are asked for in one statement."""


@dataclass(frozen=True, slots=True)
class _CommittedRun:
    """A run without a recorded end: dollars that it may come to, and its stack where that is known."""

    dollars: float
    stack: str | None
    token: str


def reserved(connection: sa.Connection, now: float) -> Mapping[RunId, str]:
    """Return the runs without a recorded end, with the token that each has reserved with, "" where that is not known."""
    return {run: one.token for run, one in _committed(connection, now).items()}


def rests(connection: sa.Connection, limits: Sequence[SpendLimit], now: float, run: RunId | None) -> list[LimitRest]:
    """Return what is left of limits; those of one run count the attempts of ``run``, None: of one that has none yet."""
    if not limits:
        return []
    # In this order: a run that ends between the two looks puts its cost there first, and is counted twice rather than not at all.
    committed = _committed(connection, now)
    return [LimitRest(limit, _spent(connection, limit, now, run), _sum(committed, limit, run)) for limit in limits]


def _sum(committed: Mapping[RunId, _CommittedRun], limit: SpendLimit, run: RunId | None) -> float:
    return sum(one.dollars for key, one in committed.items() if _counts(limit, key, one.stack, run))


def _counts(limit: SpendLimit, key: RunId, stack: str | None, run: RunId | None) -> bool:
    if limit.seconds is None and (run is None or (key.user, key.label) != (run.user, run.label)):
        return False
    return (not limit.users or key.user in limit.users) and (limit.stack is None or stack in (None, limit.stack))


def _spent(connection: sa.Connection, limit: SpendLimit, now: float, run: RunId | None) -> float:
    costs, runs = tables.costs.c, tables.runs.c
    if limit.seconds is None and run is None:
        return 0.0
    asked = [costs.started >= now - limit.seconds] if limit.seconds is not None else []
    asked += [costs.user == run.user, costs.label == run.label] if limit.seconds is None and run is not None else []
    asked += [costs.user.in_(limit.users)] if limit.users else []
    if limit.stack is None:
        return float(connection.execute(sa.select(sa.func.sum(costs.dollars)).where(*asked)).scalar() or 0.0)
    same = sa.and_(*(costs[name] == runs[name] for name in ("user", "label", "attempt")))
    query = sa.select(tables.costs, runs.stack).select_from(tables.costs.outerjoin(tables.runs, same)).where(*asked)
    known = {(RunId(row.user, row.label, row.attempt), row.stack): row.dollars for row in connection.execute(query)}
    lost = _stacks_in_events(connection, [key for key, stack in known if stack is None])
    of_each = {key: (stack or lost.get(key), dollars) for (key, stack), dollars in known.items()}
    return float(sum(dollars for stack, dollars in of_each.values() if stack in (None, limit.stack)))


def _stacks_in_events(connection: sa.Connection, keys: Sequence[RunId]) -> Mapping[RunId, str]:
    """Return the stacks that events name of attempts whose rows are gone, or that never had one (declared pods)."""
    at = tables.events.c
    stacks: dict[RunId, str] = {}
    for begin in range(0, len(keys), _TOGETHER):
        piece = [(key.user, key.label, key.attempt) for key in keys[begin : begin + _TOGETHER]]
        query = sa.select(at.user, at.label, at.attempt, at.data).where(sa.tuple_(at.user, at.label, at.attempt).in_(piece))
        stacks |= dict(_named(connection.execute(query)))
    return stacks


def _named(rows: Iterable[sa.Row[tuple[str, str, int, str]]]) -> Iterable[tuple[RunId, str]]:
    for row in rows:
        stack = parse_json(row.data).get("stack")
        if isinstance(stack, str):
            yield RunId(row.user, row.label, row.attempt), stack


def _committed(connection: sa.Connection, now: float) -> Mapping[RunId, _CommittedRun]:
    """Return the whole estimate of each run without a recorded end.

    A run that is killed and never looked at again counts so until no lease can hold it any more.
    """
    at = tables.events.c
    kinds, since = (*RESERVING, "ended"), now - LONGEST_LEASE.total_seconds()
    query = sa.select(at.user, at.label, at.attempt, at.kind, at.data).where(at.kind.in_(kinds), at.time >= since)
    begun: dict[RunId, _CommittedRun] = {}
    for row in connection.execute(query.order_by(at.time, at.number)):
        key = RunId(row.user, row.label, row.attempt)
        if row.kind == "ended":
            begun.pop(key, None)
            continue
        said, before = parse_json(row.data), begun.get(key)
        stack = said.get("stack") or (before.stack if before else None)
        token = said.get("token") or (before.token if before else "")
        begun[key] = _CommittedRun(float(said.get("estimate") or 0.0), stack, str(token))
    return begun
