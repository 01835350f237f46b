"""The page of the queue: what is at work, what waits and why, what a person has to say."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from trainyard.ledger.queue import QueueRows
from trainyard.runs.queue.look import look
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.pages.queueacts import queue_acts_of
from trainyard.web.pages.render import page

router = APIRouter()


@router.get("/queue", response_class=HTMLResponse)
def queue(request: Request, site: TheSite, who: Reader) -> Response:
    """Show the queue in its order."""
    places = look(site.context, QueueRows(site.ledger.database), site.now())
    return page(request, "queue.html", who, places=[(place, queue_acts_of(place, who)) for place in places])
