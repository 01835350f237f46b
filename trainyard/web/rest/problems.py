"""What goes wrong, as RFC 9457 has it: errors of ours by their kind, refusals of the framework, and faults, which tell nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as RawHTTPException

from trainyard import errors
from trainyard.secret import hide
from trainyard.web.guard.principal import NotLoggedIn
from trainyard.web.guard.refusal import MEDIA, answer

ProblemPage = Callable[[Request, int, str, str | None], Response]
"""Makes a page of a status, what went wrong, and what to do about it."""
_STATUS: Mapping[type[errors.TrainyardError], int] = {
    errors.UnknownRun: 404,
    errors.UserError: 422,
    errors.RefusedError: 409,
    errors.Busy: 503,
    errors.DiskFull: 507,
    errors.CloudError: 502,
    errors.Unreachable: 502,
    errors.StoreError: 502,
}
"""By kind, the first that fits; what is none of these is 500 and has its exit code."""


class ProblemDetails(BaseModel):
    """What went wrong."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    hint: str | None = None
    """What to do about it."""
    exit_code: int | None = None
    """What the command would have ended with."""


RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": ProblemDetails, "description": words, "content": {MEDIA: {}}}
    for code, words in (
        (400, "not readable"), (401, "nobody is proven"), (403, "not allowed"), (404, "not there"), (409, "refused"), (413, "too long"),
        (422, "wrong"), (429, "too often"), (503, "not now"),
    )
}  # fmt: skip


def install(app: FastAPI, page: ProblemPage) -> None:
    """Let an application answer errors so, and a browser with a page; pages send whoever is not logged in to the login."""
    app.state.problem_page = page
    app.add_exception_handler(errors.TrainyardError, _own)
    app.add_exception_handler(RawHTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fault)


def _shown(request: Request, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Answer a browser with a page, anybody else with the problem itself."""
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return answer(status, detail, headers=headers, **more)
    page: ProblemPage = request.app.state.problem_page
    return page(request, status, hide(detail), more.get("hint"))


def _own(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.TrainyardError)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    detail = f"{error.where}: {error.message}" if error.where else error.message
    return _shown(request, status, detail, hint=error.hint, exit_code=error.exit_code)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, RawHTTPException)
    if isinstance(error, NotLoggedIn) and not request.url.path.startswith("/api/"):
        return RedirectResponse("/login", 303)
    headers = error.headers if isinstance(error, HTTPException) else None
    return _shown(request, error.status_code, str(error.detail), headers=headers)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parts = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
    return _shown(request, 422, "; ".join(parts))


def _fault(request: Request, error: Exception) -> Response:
    structlog.get_logger("fault").error("fault", exc_info=error)
    return _shown(request, 500, "a fault of Trainyard's own: its log has more, by the request's id")
