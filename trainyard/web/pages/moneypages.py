"""The pages of money: what was spent, by day and by what; limits; what clouds rent out; what the account pays for now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from trainyard.clock import format_time
from trainyard.config import stack_names
from trainyard.errors import TrainyardError
from trainyard.ledger.limits import LimitRest
from trainyard.ledger.rows import RunFilter, RunRow
from trainyard.runs.planning.limits import limits_of
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.pages.reading import reading
from trainyard.web.pages.render import page
from trainyard.web.rest.reports import Reports
from trainyard.web.site import Site

router = APIRouter()
_DAYS = 30
_DAY = 86_400.0
By = Literal["stage", "stack", "user", "recipe"]
Digits = Annotated[str, Query(pattern=r"^[0-9]{0,6}(\.[0-9]{1,4})?$")]
Word = Annotated[str, Query(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]


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


@router.get("/costs", response_class=HTMLResponse)
def spending(request: Request, site: TheSite, who: Reader, reports: Reports, by: By = "stack", ask: bool = False) -> Response:
    """Show what was spent in the last days, and what is left of limits."""
    now = site.now()
    days = by_day(site.ledger.runs(RunFilter(since=now - _DAYS * _DAY)), now)
    known = reading(reports, "what clouds bill", ["costs", f"--since={_DAYS}d", f"--by={by}", "--json"], anew=ask)
    limits = [one for stack in stack_names(site.context.places.root) if (one := _limits(site, stack, who.account.name)) is not None]
    return page(request, "costs.html", who, days=days, reading=known, report=known.value, by=by, limits=limits, ways=get_args(By))


def by_day(rows: Sequence[RunRow], now: float) -> list[DaySpent]:
    """Return the last days, also those of which nothing is known, oldest first."""
    spent: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        spent[_day(row.created)].append(row.cost)
    names = [_day(now - back * _DAY) for back in reversed(range(_DAYS))]
    return [DaySpent(name, sum(spent[name]), len(spent[name])) for name in names]


@router.get("/offers", response_class=HTMLResponse)
def offers(
    request: Request, site: TheSite, who: Reader, reports: Reports, gpu: Word = "", vram: Digits = "", count: Digits = "",
    hours: Digits = "", spot: bool = False, ask: bool = False,
) -> Response:  # fmt: skip
    """Show what all clouds rent out now, the cheapest first."""
    said = {"gpu": gpu.strip(), "vram": vram, "count": count, "hours": hours}
    words = ["offers", "--json", *(f"--{name}={value}" for name, value in said.items() if value), *(["--spot"] if spot else [])]
    known = reading(reports, "the market", words, anew=ask)
    return page(request, "offers.html", who, reading=known, market=known.value, said=said, spot=spot, here=_without_ask(request))


@router.get("/account", response_class=HTMLResponse)
def account(request: Request, site: TheSite, who: Reader, reports: Reports, stack: str = "local", ask: bool = False) -> Response:
    """Show everything of a stack's account that costs money now."""
    stacks = stack_names(site.context.places.root)
    if stack not in stacks:
        raise HTTPException(404, f"there is no stack '{stack}' here")
    known = reading(reports, f"the account of {stack}", ["audit", f"--stack={stack}", "--json"], anew=ask)
    items, uploads = _items(known.value)
    here = f"/account?stack={stack}"
    return page(request, "account.html", who, reading=known, items=items, uploads=uploads, stack=stack, stacks=stacks, here=here)


def _day(moment: float) -> str:
    return format_time(moment).partition("T")[0]


def _limits(site: Site, stack: str, user: str) -> StackLimits | None:
    try:
        limits = limits_of(site.context.settings(stack), stack=stack, user=user)
    except TrainyardError as error:
        return StackLimits(stack, (), error.message)
    return StackLimits(stack, site.ledger.left_of(limits)) if limits else None


def _items(value: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what an audit has told: what costs so much an hour, and uploads that nobody has completed."""
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    return [row for row in rows if "per_hour" in row], [row for row in rows if "bytes" in row]


def _without_ask(request: Request) -> str:
    kept = "&".join(_kept(request))
    return f"{request.url.path}?{kept}" if kept else request.url.path


def _kept(request: Request) -> Iterator[str]:
    from urllib.parse import urlencode

    for name, value in request.query_params.items():
        if name != "ask":
            yield urlencode({name: value})
