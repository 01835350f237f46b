"""Signed requests to a store, repeated while their trouble may pass, and the proof of a marker.

Standard library only, Python 3.8 or newer; runs ON the pod.
"""

from __future__ import annotations

import hmac
import json
import random
from collections.abc import Callable
from typing import Any

from trainyard.pod.links import PASSING, Links, code_of

MIB = 1 << 20


class Lost(Exception):
    """It cannot be done now; the text says why."""


class Answer:
    """What a store answered."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.code = code_of(body, status)

    @property
    def etag(self) -> str:
        """The entity tag, without its quotes."""
        return self.headers.get("etag", "").strip('"')


class SignedRequests:
    """Signed requests, each repeated with growing pauses until the deadline while its trouble may pass."""

    def __init__(self, deadline: float | None, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self.deadline, self.clock, self.pause = deadline, clock, pause
        self.links = Links(120)

    def close(self) -> None:
        """Close every connection."""
        for connection in self.links.all:
            connection.close()

    def left(self) -> float:
        """Return the seconds that are left."""
        return 86400.0 if self.deadline is None else self.deadline - self.clock()

    def ask(self, method: str, url: str, body: Any = b"", headers: dict[str, str] | None = None, largest: int = 1 << 20) -> Answer:
        """Return the store's answer; raises Lost when it never gives a definite one."""
        attempt = 0
        while True:
            why = ""
            try:
                answer = self.once(method, url, body, headers or {}, largest)
                if answer.status < 500 and answer.status not in (408, 425, 429) and answer.code not in PASSING:
                    return answer
                why = f"{answer.status} {answer.code}"
            except Exception as error:  # http.client raises what it likes
                self.links.drop()
                why = f"{type(error).__name__}: {error}"
            attempt += 1
            wait = min(60.0, 0.5 * 2.0 ** min(attempt, 8)) * random.uniform(0.5, 1.0)
            if wait > self.left():
                raise Lost(f"the store does not answer as it should: {why}")
            self.pause(wait)

    def once(self, method: str, url: str, body: Any, headers: dict[str, str], largest: int) -> Answer:
        """Make one request."""
        connection, target = self.links.open(url)
        connection.putrequest(method, target, skip_accept_encoding=True)
        if method in ("PUT", "POST"):
            connection.putheader("Content-Length", str(len(body)))
        for name, value in headers.items():
            connection.putheader(name, value)
        cut = False
        try:
            connection.endheaders()
            view = memoryview(body)
            for start in range(0, len(view), MIB):
                connection.send(view[start : start + MIB])
        except (BrokenPipeError, ConnectionResetError):
            cut = True  # a refused request is answered while its body is still on the way
        response = connection.getresponse()
        text = response.read(largest)
        if cut or response.will_close or (method != "HEAD" and response.read(1)):
            self.links.drop()
        status = 500 if response.status == 200 and b"<Error>" in text[:4096] and method != "GET" else response.status
        return Answer(status, {name.lower(): value for name, value in response.getheaders()}, text)


def mac_of(secret: str, said: dict[str, Any]) -> str:
    """Return the proof that whoever made a marker knew the secret."""
    return hmac.new(secret.encode("ascii"), json.dumps(said, sort_keys=True).encode("utf-8"), "sha256").hexdigest()


def loads(body: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one for anything else."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
