"""The pages of money: what was spent, by day and by what; limits; what clouds rent out; what the account pays for now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from trainyard.config import stack_names
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.pages.reading import reading
from trainyard.web.pages.render import page
from trainyard.web.rest.reports import Reports
from trainyard.web.spending import days_spent, stack_limits

router = APIRouter()
DAYS = 30
By = Literal["stage", "stack", "user", "recipe"]
Digits = Annotated[str, Query(pattern=r"^[0-9]{0,6}(\.[0-9]{1,4})?$")]
Word = Annotated[str, Query(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]


@router.get("/costs", response_class=HTMLResponse)
def spending(request: Request, site: TheSite, who: Reader, reports: Reports, by: By = "stack", ask: bool = False) -> Response:
    """Show what was spent in the last days, and what is left of limits."""
    days = days_spent(site, DAYS)
    known = reading(reports, "what clouds bill", ["costs", f"--since={DAYS}d", f"--by={by}", "--json"], anew=ask)
    limits = stack_limits(site, who.account.name)
    return page(request, "costs.html", who, days=days, reading=known, report=known.value, by=by, limits=limits, ways=get_args(By))


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
