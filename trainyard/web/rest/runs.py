"""Runs over HTTP: list, one of them, its log from any byte on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel

from trainyard.ledger.runid import RunId
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs.listing import ListedRun, asked_for, known_run, list_known
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.rest.operations import Words

router = APIRouter(tags=["runs"])
_NAME = r"[a-z0-9][a-z0-9-]{0,63}"
User = Annotated[str, Path(pattern=f"^{_NAME}$")]
Label = Annotated[str, Path(pattern=f"^{_NAME}$")]
Attempt = Annotated[int, Path(ge=1, le=999_999_999)]
_PIECE = 1 << 16


class RunList(BaseModel):
    """Runs, oldest first; ``more`` older ones fit, too."""

    runs: list[ListedRun]
    more: int


@router.get("/runs")
def list_runs(
    site: TheSite, _who: Reader, stack: Words = None, recipe: Words = None, user: Words = None, state: Words = None,
    since: Words = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> RunList:  # fmt: skip
    """List runs, as `invoke runs` does."""
    listing = list_known(site.context, site.ledger, asked_for(stack, recipe, user, state, since, limit))
    return RunList(runs=list(listing.runs), more=listing.more)


@router.get("/runs/{user}/{label}")
def newest_attempt(site: TheSite, _who: Reader, user: User, label: Label) -> ListedRun:
    """Return a run's newest attempt."""
    newest = site.ledger.newest_attempts([(user, label)]).get((user, label))
    if newest is None:
        raise HTTPException(404, f"there is no run {user}/{label}")
    return one_attempt(site, _who, user, label, newest)


@router.get("/runs/{user}/{label}/{attempt}")
def one_attempt(site: TheSite, _who: Reader, user: User, label: Label, attempt: Attempt) -> ListedRun:
    """Return one attempt."""
    known = known_run(site.context, site.ledger, RunId(user, label, attempt))
    if known is None:
        raise HTTPException(404, f"there is no run {user}/{label}/{attempt}")
    return known


@router.get("/runs/{user}/{label}/{attempt}/log", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}})
def log(
    site: TheSite, _who: Reader, user: User, label: Label, attempt: Attempt,
    offset: Annotated[int, Query(ge=0, le=1 << 62)] = 0, length: Annotated[int, Query(ge=1, le=1 << 20)] = _PIECE,
) -> Response:  # fmt: skip
    """Return the bytes of a run's log from an offset on, exactly as the training wrote them; X-Next-Offset is where to go on."""
    run = RunId(user, label, attempt)
    try:
        with RunFolder(run.folder(site.context.places.runs)).log.open("rb") as file:
            file.seek(offset)
            piece = file.read(length)
    except FileNotFoundError:
        if not site.ledger.rows_of([run]):
            raise HTTPException(404, f"there is no run {run}/{attempt}") from None
        raise HTTPException(404, f"the log of run {run}/{attempt} is not on this server's machine") from None
    return Response(piece, media_type="application/octet-stream", headers={"X-Next-Offset": str(offset + len(piece))})
