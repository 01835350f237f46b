"""Where machines connect: a worker's token opens this and nothing else."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from trainyard.ledger.workers import WorkerRow
from trainyard.web.workers.words import LINK, STREAM
from trainyard.web.workers.yard import WorkerYard

router = APIRouter()


def _token(socket: WebSocket) -> str:
    scheme, _, text = socket.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


async def _proven(socket: WebSocket, yard: WorkerYard) -> WorkerRow | None:
    row = await run_in_threadpool(yard.prove, _token(socket))
    if row is None:
        problem = {
            "title": "Unauthorized",
            "status": 401,
            "detail": "the token is no worker's: it is none, has expired, or was rotated or revoked",
        }
        await socket.send_denial_response(JSONResponse(problem, 401, media_type="application/problem+json"))
    return row


@router.websocket(LINK)
async def link(socket: WebSocket) -> None:
    """Keep a machine's own connection."""
    yard: WorkerYard = socket.app.state.yard
    if (row := await _proven(socket, yard)) is None:
        return
    await socket.accept()
    try:
        await yard.serve(socket, row, _token(socket))
    except (WebSocketDisconnect, ValueError):  # it has gone, or says what no worker says
        return


@router.websocket(STREAM + "{stream}")
async def stream(socket: WebSocket, stream: str) -> None:
    """Keep the way of one connection to a machine."""
    yard: WorkerYard = socket.app.state.yard
    if (row := await _proven(socket, yard)) is None:
        return
    if not await yard.take(stream, row, socket):
        await socket.close(4404)
