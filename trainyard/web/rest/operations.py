"""What people had the server do, over HTTP: each is begun by a POST elsewhere, and followed here."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from pydantic import BaseModel

from trainyard.ledger.operations import ServerOperation
from trainyard.web.guard.principal import Reader, TheSite

router = APIRouter(tags=["operations"])


def _request_id(request: Request) -> str:
    text: str = request.state.request_id
    return text


Words = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""What a ledger in Postgres takes, too."""
RequestId = Annotated[str, Depends(_request_id)]
OperationId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class OperationList(BaseModel):
    """Operations, newest first."""

    operations: list[ServerOperation]


@router.get("/operations")
def list_operations(site: TheSite, _who: Reader, subject: Words = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> OperationList:
    """List what people had the server do, newest first."""
    return OperationList(operations=site.operations.newest(limit, subject=subject))


@router.get("/operations/{id}")
def one_operation(site: TheSite, _who: Reader, id: OperationId) -> ServerOperation:
    """Return one: whether it still runs, what it printed and how it ended."""
    operation = site.operations.get(id)
    if operation is None:
        raise HTTPException(404, "there is no such operation")
    return operation
