"""The spending limits of an environment against what a run may cost: asked early for the message, and held where it is reserved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainyard.errors import LimitReached
from trainyard.ledger.limits import LimitRest, SpendLimit
from trainyard.ledger.rows import Reservation
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.estimate import HOURS_A_MONTH, Estimate
from trainyard.runs.records.reservations import release_ended
from trainyard.settings.limits import LimitRule, limit_rules
from trainyard.settings.table import StackSettings

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger

_DISK_MONTH = 0.20
"""Dollars a month for a GB of a pod's disk: the most that a cloud asks."""
_DAY = 86_400.0
_SECONDS = {"run": None, "day": _DAY, "week": 7 * _DAY, "month": 30 * _DAY}


def limits_of(settings: StackSettings, *, stack: str, user: str) -> list[SpendLimit]:
    """Return the limits that a stack's settings hold a user's run to."""
    older = (("limit_day", settings.limit_day, _DAY), ("limit_week", settings.limit_week, 7 * _DAY),
             ("limit_month", settings.limit_month, 30 * _DAY))  # fmt: skip
    blocks = settings.limit_action == "block"
    limits = [SpendLimit(name, dollars, seconds, blocks=blocks) for name, dollars, seconds in older if dollars is not None]
    return [*limits, *(_limit(rule, stack, user) for rule in limit_rules(settings.limits))]


def check_limits(
    expected: Estimate, limits: Sequence[SpendLimit], ledger: Ledger, budget: float | None, *, count: int | None = None,
    before: float = 0.0, run: RunId | None = None,
) -> list[str]:  # fmt: skip
    """Return warnings; raises LimitReached where a limit that blocks forbids the run.

    ``count``: so many pods that a stack declares, instead of the pod of a run. ``run``: one that is on the ledger and gets more; one
    that has no name yet may have spent dollars ``before``, in earlier attempts.
    """
    warnings = []
    if budget is not None and expected.most > budget:
        warnings.append(f"the whole lease would cost ${expected.most:.2f}; the training is stopped when ${budget:.2f} are used up")
    most = expected.most * (count or 1)
    passed = [rest for rest in (ledger.left_of(limits, run) if run else _left(ledger, limits, before)) if rest.is_passed_by(most)]
    for rest in passed:
        if rest.limit.blocks:
            raise _refusal(rest, most, count)
    return warnings + [_words(rest, most, count) for rest in passed]


def check_at_start(
    context: CommandContext, expected: Estimate, limits: Sequence[SpendLimit], budget: float | None, before: float
) -> list[str]:  # fmt: skip
    """Do as check_limits does for a run that has no name yet; before one is refused, what ended runs still have reserved is released."""
    ledger = context.ledger()
    try:
        return check_limits(expected, limits, ledger, budget, before=before)
    except LimitReached:
        if not release_ended(context):
            raise
    return check_limits(expected, limits, ledger, budget, before=before)


def reserve_dollars(ledger: Ledger, limits: Sequence[SpendLimit], reservation: Reservation, *, count: int | None = None) -> None:
    """Put what a run may cost on the ledger, whatever other processes reserve meanwhile; ``count`` as for check_limits.

    Raises LimitReached where a limit that blocks leaves less by now: nothing is on the ledger then.
    """
    passed = ledger.reserve(reservation, limits)
    if passed:
        raise _refusal(passed[0], reservation.added, count)


def price_ceiling(
    expected: Estimate, settings: StackSettings, limits: Sequence[SpendLimit], ledger: Ledger, *, before: float = 0.0
) -> float:  # fmt: skip
    """Return the dollars per hour above which no pod of the run is kept, whatever its offer said; so much is reserved for each hour.

    A cloud may count the pod's disk into its price: that and 2 % may come to what the estimate told, but neither
    ``max_price`` nor a limit that blocks is passed.
    """
    free = not expected.most  # a machine of one's own: no cloud counts its disk
    disk = 0.0 if free else settings.disk_gb * _DISK_MONTH / HOURS_A_MONTH
    ceilings = [expected.dearest.price_per_hour * 1.02 + disk]
    if settings.max_price is not None:
        ceilings.append(settings.max_price)
    hours = expected.hours + expected.rescue_hours
    ceilings += [
        rest.dollars / hours / expected.pods - expected.disks_per_hour for rest in _left(ledger, limits, before) if rest.limit.blocks
    ]
    return math.floor(min(ceilings) * 1e6 + 1e-3) / 1e6  # never up: what is left may be filled, and not passed


def _left(ledger: Ledger, limits: Sequence[SpendLimit], before: float) -> list[LimitRest]:
    """Return what is left of limits; a run that has no name yet has spent ``before``."""
    rests = ledger.left_of(limits)
    return [LimitRest(rest.limit, before, 0.0) if rest.limit.seconds is None else rest for rest in rests]


def _limit(rule: LimitRule, stack: str, user: str) -> SpendLimit:
    whose = {"all": "", "stack": f" of stack {stack}", "user": f" of user {user}"}[rule.of]
    return SpendLimit(
        f"the limit per {rule.per}{whose}",
        rule.amount,
        _SECONDS[rule.per],
        users=(user,) if rule.of == "user" else (),
        stack=stack if rule.of == "stack" else None,
        blocks=rule.action == "block",
    )


def _refusal(rest: LimitRest, most: float, count: int | None) -> LimitReached:
    shorten = "--hours" if count is None else "trainyard:hours"
    hint = f"Shorten the lease ({shorten}), or change the limit in the stack's settings."
    return LimitReached(_words(rest, most, count), hint=hint, most=most, ever=most <= rest.limit.dollars)


def _words(rest: LimitRest, most: float, count: int | None) -> str:
    what = "this run" if count is None else f"{count} declared pod{'s' if count > 1 else ''}"
    places = _places(rest, most)
    limit, spent, committed, added = (f"${dollars:.{places}f}" for dollars in (rest.limit.dollars, rest.spent, rest.committed, most))
    live = f", {committed} may still go to runs that have not ended (invoke recover ends them)" if rest.committed else ""
    return f"{rest.limit.name} is {limit}: {spent} spent{live}, {what} may add {added}"


def _places(rest: LimitRest, most: float) -> int:
    """Return the digits behind the point by which the figures show that the limit is passed: cents, mostly."""
    for places in range(2, 6):
        spent, committed, added, limit = (round(dollars, places) for dollars in (rest.spent, rest.committed, most, rest.limit.dollars))
        if LimitRest(replace(rest.limit, dollars=limit), spent, committed).is_passed_by(added):
            return places
    return 6
