"""By which name a server is asked: without TLS by one of this machine alone, as a page of elsewhere could have its own name lead here."""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from trainyard.web.guard.refusal import answer

_HOST = re.compile(r"(?:([A-Za-z0-9._-]{1,253})|\[([0-9A-Fa-f:.]{2,45})\])(?::[0-9]{1,5})?")


class HostGuard:
    """Answer 400 to what is no host, and, unless browsers come by TLS, 421 to a name that is not this machine's."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self.app, self.secure = app, secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on that asks for this server."""
        if scope["type"] == "http":
            name = asked_host(Headers(scope=scope))
            if name is None:
                await answer(400, "its Host is none")(scope, receive, send)
                return
            if not self.secure and not is_loopback(name):
                await answer(421, "without TLS this server is asked as localhost alone")(scope, receive, send)
                return
        await self.app(scope, receive, send)


def asked_host(headers: Headers) -> str | None:
    """Return the host that a request names, without its port; None where there is none."""
    said = headers.getlist("host")
    match = _HOST.fullmatch(said[0]) if len(said) == 1 else None
    return (match[1] or match[2]) if match else None


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address can be of nothing but this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
