"""What goes wrong, as a page, for whoever came with a browser."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response

from trainyard.web.pages.render import page


def problem_page(request: Request, status: int, detail: str, hint: str | None) -> Response:
    """Return the page of a problem; who asks is shown where that was proven."""
    who, request_id = getattr(request.state, "who", None), getattr(request.state, "request_id", "")
    title = HTTPStatus(status).phrase
    return page(request, "problem.html", who, status=status, title=title, detail=detail, hint=hint, request_id=request_id)
