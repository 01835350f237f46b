"""Machines that join this ledger's servers, over HTTP: how they stand. They are made and changed at the command line."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from trainyard.ledger.workers import WorkerRow, WorkerRows, WorkerState
from trainyard.web.guard.principal import Reader, TheSite

router = APIRouter(tags=["workers"])


class ListedWorker(BaseModel):
    """A machine and how it stands."""

    state: WorkerState
    row: WorkerRow


class WorkerList(BaseModel):
    """All machines."""

    workers: list[ListedWorker]


@router.get("/workers")
def list_workers(site: TheSite, _who: Reader) -> WorkerList:
    """List the machines that join, by name."""
    now = site.now()
    return WorkerList(workers=[ListedWorker(state=row.state(now), row=row) for row in WorkerRows(site.ledger.database).all()])
