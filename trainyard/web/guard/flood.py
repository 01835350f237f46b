"""How often one may ask: each token, and each address that has none; logins by far less. Who asks too often is told when to come back."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Container

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from trainyard.web.guard.cookies import COOKIES, cookie_of
from trainyard.web.guard.refusal import answer

ASKS, CHANGES, LOGINS, STRANGERS, NEW = (parse(text) for text in ("1200/minute", "120/minute", "10/minute", "120/minute", "600/minute"))
"""Of a token, of a token's changes, of an address's logins, of an address without a token, of one with tokens not proven yet."""
_KNOWN = 10_000
"""So many tokens that were proven are remembered."""
_FREE = ("/static/", "/healthz", "/readyz")


class FloodGuard:
    """Answer 429 to who asks too often; what is counted lies in this process and is forgotten after a minute."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.window = MovingWindowRateLimiter(MemoryStorage())
        self.known: OrderedDict[str, None] = OrderedDict()
        """Tokens that were proven, with the addresses they come from: ids that are made up count as their address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on that is not one too many."""
        if scope["type"] != "http" or scope["path"].startswith(_FREE):
            await self.app(scope, receive, send)
            return
        for limit, who in _counted(scope, self.known):
            if not self.window.hit(limit, who):
                until = self.window.get_window_stats(limit, who).reset_time
                await _refuse(max(1, math.ceil(until - time.time())), limit)(scope, receive, send)
                return
        try:
            await self.app(scope, receive, send)
        finally:
            if (who := _token(scope)) and scope.get("state", {}).get("account"):
                self.known[who] = None
                self.known.move_to_end(who)
                if len(self.known) > _KNOWN:
                    self.known.popitem(last=False)


def _counted(scope: Scope, known: Container[str]) -> list[tuple[RateLimitItem, str]]:
    """Return against what a request counts: by the id of its token, so that no secret is kept here."""
    address = str((scope.get("client") or ("?",))[0])
    if scope["method"] == "POST" and scope["path"] == "/login":
        return [(LOGINS, f"login {address}")]
    who = _token(scope)
    if not who:
        return [(STRANGERS, f"address {address}")]
    new = [] if who in known else [(NEW, f"new {address}")]
    return [*new, (ASKS, who), *([(CHANGES, f"changes {who}")] if scope["method"] not in ("GET", "HEAD", "OPTIONS") else [])]


def _token(scope: Scope) -> str:
    """Return which token a request names and from where, "" where it names none."""
    headers = Headers(scope=scope)
    scheme, _, text = headers.get("authorization", "").partition(" ")
    text = text.strip() if scheme.lower() == "bearer" else next(filter(None, (cookie_of(headers, name) for name in COOKIES)), "")
    token_id = text.split("_")[1] if text.count("_") >= 2 else ""
    return f"token {token_id[:16]} {(scope.get('client') or ('?',))[0]}" if token_id else ""


def _refuse(seconds: int, limit: RateLimitItem) -> JSONResponse:
    return answer(429, f"more than {limit.amount} in a minute: come back in {seconds} s", headers={"Retry-After": str(seconds)})
