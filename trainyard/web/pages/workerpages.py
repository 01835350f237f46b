"""The page of workers: machines that join by a token."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from trainyard.ledger.workers import WorkerRows
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.pages.render import page

router = APIRouter()


@router.get("/workers", response_class=HTMLResponse)
def workers(request: Request, site: TheSite, who: Reader) -> Response:
    """Show how the machines stand."""
    now = site.now()
    return page(request, "workers.html", who, workers=[(row, row.state(now)) for row in WorkerRows(site.ledger.database).all()])
