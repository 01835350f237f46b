"""What servers do by schedule, over HTTP."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from trainyard.ledger.duties import DutyRow, DutyRows
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.schedule.duties import DUTIES

router = APIRouter(tags=["schedule"])


class ListedDuty(BaseModel):
    """A duty and how it stands."""

    name: str
    words: list[str]
    """What is typed for it, behind `trainyard`."""
    every: float
    """Seconds from its end to its next beginning."""
    purpose: str
    row: DutyRow
    due: float | None
    """When it is done next; None: it is being done, or as soon as a server keeps the schedule."""


class DutyList(BaseModel):
    """All duties."""

    duties: list[ListedDuty]


@router.get("/duties")
def list_duties(site: TheSite, _who: Reader) -> DutyList:
    """List what servers do by schedule, and how it went last."""
    rows = DutyRows(site.ledger.database).all()
    listed = []
    for duty in DUTIES:
        row = rows.get(duty.name, DutyRow(name=duty.name))
        due = row.ended + duty.every if row.holder is None and row.ended is not None else None
        listed.append(ListedDuty(name=duty.name, words=list(duty.words), every=duty.every, purpose=duty.purpose, row=row, due=due))
    return DutyList(duties=listed)
