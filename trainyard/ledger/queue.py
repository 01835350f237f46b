"""The queue's rows: what was submitted, how it stands, who sees to it. Each change is one conditional statement in one transaction,
so of two workers, or of a worker and a person, exactly one makes it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from trainyard.config import AUTO
from trainyard.jsontext import parse_json
from trainyard.ledger.database import Database
from trainyard.ledger.keys import StartKey, take_key
from trainyard.ledger.quotas import RunQuota, passed_quota
from trainyard.ledger.runid import RunId
from trainyard.ledger.tables import queue, submissions

QueueState = Literal["queued", "begun", "over"]
ApprovalState = Literal["not needed", "needed", "approved", "rejected"]
_KEPT = 30 * 86_400.0
"""Seconds for which the row of an entry that is over is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """One run that was submitted. Times are epoch seconds, money is in dollars."""

    id: str
    user: str
    label: str
    attempt: int = 1
    """The least number of an attempt that counts as this entry's."""
    stack: str
    recipe: str
    gpus: str = ""
    """What its stack asked for when it was submitted."""
    group: str | None = None
    """What it belongs to: a sweep."""
    priority: int = 0
    after: tuple[str, ...] = ()
    """Runs (user/label) that must have succeeded before."""
    not_before: float | None = None
    submitted: float
    submitted_by: str
    machine: str
    """Where it was submitted."""
    estimate: float | None = None
    """What it costs at most; None: nobody could tell then."""
    state: QueueState = "queued"
    held: str | None = None
    """Who holds it back, or what is wrong with it; None: nothing does."""
    approval: ApprovalState = "not needed"
    approval_why: str | None = None
    """The rule that asks for it."""
    decided_by: str | None = None
    decided: float | None = None
    begun: float | None = None
    ended: float | None = None
    outcome: str | None = None
    """How it ended: succeeded, failed, cancelled, stopped, withdrawn, rejected."""
    reason: str | None = None
    """What kept the last worker from beginning it, or why it failed."""
    tries: int = 0
    """How often that was so, one after the other."""
    due: float = 0.0
    """No worker looks at it before."""
    worker: str | None = None
    """Who saw to it last: host, process, and what tells that from a later one with its number."""
    beat: float | None = None
    """When that worker last said that it does so at the moment; None: it does not."""
    auto: bool = False
    """Its stack is chosen each time that it begins; until then ``stack`` is the one that was cheapest last."""

    @property
    def run(self) -> str:
        """Its name: user/label."""
        return f"{self.user}/{self.label}"

    @property
    def asked(self) -> str:
        """The stack that was asked for."""
        return AUTO if self.auto else self.stack

    @property
    def where(self) -> str:
        """The stack as far as it is decided: ``auto`` until a worker has chosen it."""
        return self.asked if self.state == "queued" else self.stack


class NameTaken(Exception):
    """An entry of this name is not over."""


class QuotaReached(Exception):
    """The quota of an account or a team leaves room for no further entry."""

    def __init__(self, quota: RunQuota) -> None:
        super().__init__(f"{quota.name} may have {quota.most} runs that wait or are at work")


class QueueRows:
    """The queue of a ledger. Raises Busy, DiskFull or UserError when the ledger cannot be used."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, entry: QueueEntry, content: bytes, key: StartKey | None = None) -> None:
        """Put an entry in with what it is prepared from, and let a key stand for it.

        Raises NameTaken where one of its name is not over, QuotaReached, KeyTaken where the key stands for another one by now.
        """
        at = queue.c
        with self.database.reserving() as connection:
            same = sa.select(at.id).where(at.user == entry.user, at.label == entry.label, at.state != "over")
            if connection.execute(same).first() is not None:
                raise NameTaken
            if (quota := passed_quota(connection, entry.user)) is not None:
                raise QuotaReached(quota)
            if key is not None:
                take_key(connection, key, RunId(entry.user, entry.label, entry.attempt), entry.id)
            connection.execute(sa.delete(queue).where(at.state == "over", at.ended < entry.submitted - _KEPT))
            connection.execute(sa.insert(queue).values(**_columns(dataclasses.asdict(entry))))
            connection.execute(sa.insert(submissions).values(id=entry.id, content=content))

    def entries(self, *, over: bool = False, group: str | None = None) -> list[QueueEntry]:
        """Return what is not over (``over``: that, too), in the order of submission; of one group or of all."""
        at = queue.c
        asked = [] if over else [at.state != "over"]
        asked += [] if group is None else [at.group == group]
        return self._entries(*asked)

    def entry(self, entry_id: str) -> QueueEntry | None:
        """Return one as it stands now."""
        return next(iter(self._entries(queue.c.id == entry_id)), None)

    def named(self, label: str, user: str | None = None) -> list[QueueEntry]:
        """Return the entries of a run's name, oldest first, of one user or of all."""
        return self._entries(queue.c.label == label, *([] if user is None else [queue.c.user == user]))

    def turns(self) -> Mapping[str, float]:
        """Return when a run of each user was last begun."""
        at = queue.c
        query = sa.select(at.user, sa.func.max(at.begun)).where(at.begun.is_not(None)).group_by(at.user)
        with self.database.reading() as connection:
            return {row[0]: float(row[1]) for row in connection.execute(query)}

    def content(self, entry_id: str) -> bytes | None:
        """Return what an entry is prepared from; None when it is over."""
        with self.database.reading() as connection:
            content = connection.execute(sa.select(submissions.c.content).where(submissions.c.id == entry_id)).scalar()
        return None if content is None else bytes(content)

    def change(self, entry: QueueEntry, **values: Any) -> bool:
        """Change an entry that still is in the state, and in the hands, in which it was seen; tell whether it was.

        What it was prepared from goes with the change to ``over``.
        """
        at = queue.c
        seen = [at.id == entry.id, at.state == entry.state, at.worker.is_not_distinct_from(entry.worker)]
        with self.database.writing() as connection:
            done = connection.execute(sa.update(queue).where(*seen).values(**_columns(values))).rowcount == 1
            if done and values.get("state") == "over":
                connection.execute(sa.delete(submissions).where(submissions.c.id == entry.id))
        return done

    def take(self, entry: QueueEntry, worker: str, now: float, fits: Callable[[Collection[QueueEntry]], bool]) -> QueueEntry | None:
        """Let a worker see to an entry, unless somebody else does since it was seen; return it as it stands then, else None.

        One that has not begun begins with that, if ``fits`` says so of all that have begun. No other worker takes one meanwhile.
        """
        at = queue.c
        seen = [
            at.id == entry.id, at.state == entry.state, at.worker.is_not_distinct_from(entry.worker),
            at.beat.is_not_distinct_from(entry.beat), at.held.is_not_distinct_from(entry.held), at.approval == entry.approval,
        ]  # fmt: skip
        values = {"worker": worker, "beat": now, "state": "begun"}
        with self.database.reserving() as connection:
            if entry.state == "queued":
                if not fits([_entry(row) for row in connection.execute(sa.select(queue).where(at.state == "begun"))]):
                    return None
                values["begun"] = now
            done = connection.execute(sa.update(queue).where(*seen).values(**values)).rowcount == 1
        return dataclasses.replace(entry, **values) if done else None  # type: ignore[arg-type]

    def move(self, entry: QueueEntry, stack: str, fits: Callable[[Collection[QueueEntry]], bool]) -> QueueEntry | None:
        """Let an entry that its worker begins begin on another stack, if ``fits`` says so of all others that have begun; else None."""
        at = queue.c
        with self.database.reserving() as connection:
            others = sa.select(queue).where(at.state == "begun", at.id != entry.id)
            if not fits([_entry(row) for row in connection.execute(others)]):
                return None
            mine = [at.id == entry.id, at.state == "begun", at.worker == entry.worker]
            done = connection.execute(sa.update(queue).where(*mine).values(stack=stack)).rowcount == 1
        return dataclasses.replace(entry, stack=stack) if done else None

    def beat(self, worker: str, now: float) -> None:
        """Say that a worker lives: of all that it sees to."""
        at = queue.c
        with self.database.writing() as connection:
            connection.execute(sa.update(queue).where(at.worker == worker, at.beat.is_not(None)).values(beat=now))

    def _entries(self, *asked: sa.ColumnElement[bool]) -> list[QueueEntry]:
        with self.database.reading() as connection:
            return [_entry(row) for row in connection.execute(sa.select(queue).where(*asked).order_by(queue.c.submitted, queue.c.id))]


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "after": json.dumps(values["after"])} if "after" in values else dict(values)


def _entry(row: sa.Row[Any]) -> QueueEntry:
    values = dict(row._mapping)
    return QueueEntry(**{**values, "after": tuple(parse_json(values["after"]))})
