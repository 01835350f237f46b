"""Connections of a pod to a store, or to the web, and what their answers mean.

Standard library only, Python 3.8 or newer; runs ON the pod.
"""

from __future__ import annotations

import base64
import re
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import http.client
    import ssl
    from urllib.parse import SplitResult

TRIES = 6
CONNECT_SECONDS = 20
# Refusals that may be the wire's or the moment's fault.
PASSING = ("BadDigest", "XAmzContentChecksumMismatch", "RequestTimeout", "SlowDown", "IncompleteBody")
# What stands for a status where no store has answered.
NO_ANSWER = 0
_CODE = re.compile(rb"<Code>([^<]{1,80})</Code>")


def code_of(body: bytes, status: int) -> str:
    """Return the store's own word for what it answers, the status where it has none."""
    code = _CODE.search(body)
    return code.group(1).decode("ascii", "replace") if code else str(status)


class Links:
    """One connection a thread, through the proxy that the environment names."""

    def __init__(self, timeout: float) -> None:
        self.timeout, self.mine, self.lock = timeout, threading.local(), threading.Lock()
        self.trusted: ssl.SSLContext | None = None
        self.proxies: dict[tuple[str, str], SplitResult | None] = {}
        self.all: list[http.client.HTTPConnection] = []

    def open(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        """Return this thread's connection to a URL's host, and what to ask it for."""
        import urllib.parse

        parts = urllib.parse.urlsplit(url)
        place = (parts.scheme, parts.netloc)
        if place not in self.proxies:
            self.proxies[place] = proxy_for(parts)  # a fifth of the work for a small file
        proxy = self.proxies[place]
        if getattr(self.mine, "to", None) != parts.netloc or self.mine.connection is None:
            self.drop()
            connection = self.connect(parts, proxy)
            self.all.append(connection)
            self.mine.to, self.mine.connection = parts.netloc, connection
            connection.connect()
            connection.sock.settimeout(self.timeout)
        target = parts.path + ("?" + parts.query if parts.query else "")
        return self.mine.connection, url if proxy and parts.scheme == "http" else target

    def connect(self, parts: SplitResult, proxy: SplitResult | None) -> http.client.HTTPConnection:
        """Return a new connection, not opened yet; opening it must not take as long as an answer may."""
        import http.client

        where = proxy or parts
        port = where.port or (443 if where.scheme == "https" else 80)
        if parts.scheme != "https":
            return http.client.HTTPConnection(where.hostname or "", port, timeout=CONNECT_SECONDS)
        secure = http.client.HTTPSConnection(where.hostname or "", port, timeout=CONNECT_SECONDS, context=self.context())
        if proxy:
            pair = (proxy.username or "") + ":" + (proxy.password or "")
            word = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
            secure.set_tunnel(parts.hostname or "", parts.port or 443, {"Proxy-Authorization": word} if proxy.username else {})
        return secure

    def context(self) -> ssl.SSLContext:
        """Return the one context of all connections: reading the certificates of an image takes 20 ms."""
        import ssl

        with self.lock:
            self.trusted = self.trusted or ssl.create_default_context()
            return self.trusted

    def drop(self) -> None:
        """Close this thread's connection; the next request opens another one."""
        connection, self.mine.connection = getattr(self.mine, "connection", None), None
        if connection is not None:
            connection.close()
            self.all.remove(connection)


def proxy_for(parts: SplitResult) -> SplitResult | None:
    """Return the proxy for a URL; this machine itself is never reached through one."""
    import urllib.parse
    import urllib.request

    host = parts.hostname or ""
    named = urllib.request.getproxies().get(parts.scheme)
    if not named or host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.parse.urlsplit(named if "://" in named else "http://" + named)
