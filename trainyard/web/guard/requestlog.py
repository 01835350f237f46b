"""One line of JSON a request on stderr: who, what, how long, of which run; never a token, a query, a body or a cookie."""

from __future__ import annotations

import re
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainyard.secret import hide

REQUEST_ID = "X-Request-Id"
_RUN = re.compile(r"/runs/([a-z0-9-]+/[a-z0-9-]+)(?:/|$)")
_PLAIN = re.compile(r"[A-Za-z0-9-]{8,64}")


def set_up_logging() -> None:
    """Have structlog write JSON to stderr, without what this process knows as secret."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info, structlog.processors.JSONRenderer(), _hidden,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )  # fmt: skip


def _hidden(_logger: object, _name: str, line: Any) -> str:
    return hide(str(line))


class RequestLog:
    """Give each request an id, which its answer and all that is logged of it have."""

    def __init__(self, app: ASGIApp, *, count: Callable[[str, str, int, float], None]) -> None:
        self.app, self.count, self.log = app, count, structlog.get_logger("request")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and say what became of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        said = dict(scope["headers"]).get(REQUEST_ID.lower().encode(), b"").decode("latin-1")
        request_id = said if _PLAIN.fullmatch(said) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=request_id)

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self.app(scope, receive, sent)
        finally:
            run, seconds = _RUN.search(scope["path"]), time.perf_counter() - began
            self.count(scope["method"], getattr(scope.get("route"), "path", "none"), status, seconds)
            self.log.info(
                "request", method=scope["method"], path=scope["path"], status=status, account=scope["state"].get("account"),
                run=run[1] if run else None, ms=round(seconds * 1000, 1),
            )  # fmt: skip
