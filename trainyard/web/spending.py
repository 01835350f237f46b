"""What was spent by day, and what is left of limits: the page of costs and the REST API tell the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.clock import format_time
from trainyard.config import stack_names
from trainyard.errors import TrainyardError
from trainyard.ledger.limits import LimitRest
from trainyard.ledger.rows import RunFilter, RunRow
from trainyard.runs.planning.limits import limits_of
from trainyard.web.site import Site

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class DaySpent:
    """What runs have cost that began on a day (UTC)."""

    day: str
    dollars: float
    runs: int


@dataclass(frozen=True, slots=True)
class StackLimits:
    """What is left of a stack's limits; ``problem``: why nobody can tell."""

    stack: str
    rests: Sequence[LimitRest]
    problem: str | None = None


def days_spent(site: Site, days: int) -> list[DaySpent]:
    """Return the last days, also those of which nothing is known, oldest first."""
    now = site.now()
    return by_day(site.ledger.runs(RunFilter(since=now - days * _DAY)), now, days)


def by_day(rows: Sequence[RunRow], now: float, days: int) -> list[DaySpent]:
    """Return what runs have cost by the day on which each began."""
    spent: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        spent[_day(row.created)].append(row.cost)
    names = [_day(now - back * _DAY) for back in reversed(range(days))]
    return [DaySpent(name, sum(spent[name]), len(spent[name])) for name in names]


def stack_limits(site: Site, user: str) -> list[StackLimits]:
    """Return the limits that a user's runs have on each stack that has any, or cannot be read."""
    return [one for stack in stack_names(site.context.places.root) if (one := _limits(site, stack, user)) is not None]


def _limits(site: Site, stack: str, user: str) -> StackLimits | None:
    try:
        limits = limits_of(site.context.settings(stack), stack=stack, user=user)
    except TrainyardError as error:
        return StackLimits(stack, (), error.message)
    return StackLimits(stack, site.ledger.left_of(limits)) if limits else None


def _day(moment: float) -> str:
    return format_time(moment).partition("T")[0]
