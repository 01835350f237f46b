"""Tell those whom a stack names that a share of a spending limit is used: once in the limit's time, by whoever sees it first."""

from __future__ import annotations

import time

from trainyard.errors import TrainyardError, in_short
from trainyard.ledger.limits import LimitRest
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.notices.addresses import names_of
from trainyard.runs.notices.announce import announce
from trainyard.runs.notices.notice import Notice
from trainyard.runs.planning.limits import limits_of

SHARES = (50, 80, 100)
"""Percent of a limit, or of a run's budget, at which that is told."""
LIMIT = "limit"
"""Kind of the event that says which share of a limit was told."""


def share_of(used: float, whole: float) -> int:
    """Return the largest share that is used, in percent; 0 below the first."""
    return max((share for share in SHARES if whole > 0 and 100 * used >= share * whole - 1e-6), default=0)


def tell_limits(context: CommandContext, stack: str, run: RunId) -> None:
    """Look at the limits over days that a run is held to, after it has reserved or ended; trouble is said and changes nothing else.

    What is reserved counts as used. Limits of one run are told while it runs.
    """
    try:
        if not names_of(context.places.root, [stack]):
            return
        limits = [limit for limit in limits_of(context.settings(stack), stack=stack, user=run.user) if limit.seconds is not None]
        for rest in context.ledger().left_of(limits):
            _tell(context, stack, run, rest)
    except (OSError, TrainyardError) as error:
        context.ui.warn(f"nobody is told how much of the limits is used: {in_short(error)}")


def _tell(context: CommandContext, stack: str, run: RunId, rest: LimitRest) -> None:
    limit, used = rest.limit, rest.spent + rest.committed
    share = share_of(used, limit.dollars)
    since = time.time() - (limit.seconds or 0.0)
    if not share or not context.ledger().tell_share(run, LIMIT, share, since=since, limit=limit.name):
        return
    then = "Above it nothing is rented." if limit.blocks else "It only warns: nothing is refused."
    text = f"${rest.spent:.2f} spent, ${rest.committed:.2f} may still go to runs at work.\n{then}\nSee where it went: invoke costs"
    data: dict[str, str | float | bool | None] = {
        "limit": limit.name, "share": share, "spent": round(rest.spent, 6), "committed": round(rest.committed, 6), "amount": limit.dollars,
    }  # fmt: skip
    title = f"{share} % of {limit.name} are used: ${used:.2f} of ${limit.dollars:.2f}"
    announce(context, Notice(kind="limit", title=title, text=text, stack=stack, run=str(run), data=data))
