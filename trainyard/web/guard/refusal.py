"""A problem as an answer, as RFC 9457 has it: of whatever stands before a request, and of what answers it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from trainyard.secret import hide

MEDIA = "application/problem+json"


def answer(status: int, detail: str, *, title: str | None = None, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return a problem as an answer."""
    body = {"type": "about:blank", "title": title or HTTPStatus(status).phrase, "status": status, "detail": hide(detail), **more}
    return JSONResponse(body, status, media_type=MEDIA, headers=dict(headers or {}))
