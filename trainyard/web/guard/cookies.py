"""The session's cookie: what it is called, and what a request has of it."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

PLAIN, SECURE = "trainyard", "__Host-trainyard"
"""With TLS its name has the prefix that keeps other hosts of the domain from setting it."""
COOKIES = (PLAIN, SECURE)


def cookie_of(headers: Headers, name: str) -> str:
    """Return a cookie of a request, "" without it."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
