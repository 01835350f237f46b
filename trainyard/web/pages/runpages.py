"""The pages of runs: all of them, and one."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from trainyard.ledger.runid import RunId
from trainyard.runs.verbs.listing import SHOWN, STATES, asked_for, list_known
from trainyard.web.guard.principal import Reader, Runner, TheSite
from trainyard.web.pages.render import page
from trainyard.web.rest.operations import RequestId
from trainyard.web.rest.runs import Attempt, Label, User, one_attempt
from trainyard.web.work import begin

router = APIRouter()


@router.get("/", response_class=HTMLResponse)
def runs(
    request: Request, site: TheSite, who: Reader, stack: str = "", recipe: str = "", user: str = "", state: str = "", since: str = "",
) -> Response:  # fmt: skip
    """Show the runs that fit, newest first."""
    said = {"stack": stack, "recipe": recipe, "user": user, "state": state, "since": since}
    listing = list_known(
        site.context, site.ledger, asked_for(stack or None, recipe or None, user or None, state or None, since or None, SHOWN)
    )
    return page(request, "runs.html", who, runs=list(reversed(listing.runs)), more=listing.more, said=said, states=STATES)


@router.get("/runs/{user}/{label}/{attempt}", response_class=HTMLResponse)
def run(request: Request, site: TheSite, who: Reader, user: User, label: Label, attempt: Attempt) -> Response:
    """Show one attempt: figures, events, what was done to it."""
    listed = one_attempt(site, who, user, label, attempt)
    events = site.ledger.events(RunId(user, label, attempt))
    operations = site.operations.newest(20, subject=f"{user}/{label}")
    return page(request, "run.html", who, run=listed, events=events, operations=operations)


@router.post("/runs/{user}/{label}/{attempt}/cancel")
def cancel(site: TheSite, who: Runner, request_id: RequestId, user: User, label: Label, attempt: Attempt) -> Response:
    """End a run, as the page's button asks."""
    begin(site, who, request_id, ["cancel", f"{user}/{label}"], subject=f"{user}/{label}")
    return RedirectResponse(f"/runs/{user}/{label}/{attempt}", 303)
