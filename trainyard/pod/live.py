"""What a container without SSH tells while its job runs: files in parts of fixed names, and a status that is written again and again.

Standard library only, Python 3.8 or newer; runs ON the pod. Each object has its signed URL from the start, so their number and
size are bounded: a log that outgrows them goes on in the result, whole.
"""

from __future__ import annotations

import hmac
import json
import os
import time
from typing import Any

from trainyard.pod.links import Links
from trainyard.pod.signed import Answer, SignedRequests, loads, mac_of

SECONDS = 15.0
"""Longest time for an answer: who waits here neither tells nor hears anything."""


def open_wire() -> SignedRequests:
    """Return signed requests that wait for no answer very long."""
    wire = SignedRequests(None, time.time, time.sleep)
    wire.links = Links(SECONDS)
    return wire


def try_once(wire: SignedRequests, method: str, url: str, body: Any = b"", headers: dict[str, str] | None = None) -> Answer | None:
    """Return the store's answer, None where there is none: what fails is done again with the next look."""
    try:
        return wire.once(method, url, body, headers or {}, 16 << 20)
    except Exception:  # http.client raises what it likes
        wire.links.drop()
        return None


class GrowingFile:
    """A file that only grows, on its way out in parts; the last part is written again until it is full."""

    def __init__(self, path: str, urls: list[str], part: int) -> None:
        self.path, self.urls, self.part, self.sent = path, urls, part, 0

    @property
    def room(self) -> int:
        """Bytes that its parts hold."""
        return self.part * len(self.urls)

    def size(self) -> int:
        """Return how large it is now."""
        try:
            return os.path.getsize(self.path)
        except OSError:
            return 0

    def is_behind(self) -> bool:
        """Tell whether there is more to send, and room for it."""
        return min(self.size(), self.room) > self.sent

    def send(self, wire: SignedRequests) -> bool:
        """Send what has been added; False when the store does not take it now."""
        while self.is_behind():
            number = self.sent // self.part
            with open(self.path, "rb") as file:
                file.seek(number * self.part)
                body = file.read(self.part)
            answer = try_once(wire, "PUT", self.urls[number], body)
            if answer is None or answer.status != 200:
                return False
            self.sent = number * self.part + len(body)
        return True


class Board:
    """The status of a container in the bucket, and what its controllers have left there for it."""

    def __init__(self, wire: SignedRequests, links: dict[str, Any], secret: str, container: str) -> None:
        self.wire, self.links, self.secret, self.container = wire, links, secret, container
        self.number, self.tag = 0, ""

    def write(self, said: dict[str, Any]) -> bool:
        """Write the status; False when the store does not take it now."""
        body = dict(said, version=1, container=self.container, orders=self.number)
        text = json.dumps(dict(body, mac=mac_of(self.secret, body))).encode("utf-8")
        answer = try_once(self.wire, "PUT", self.links["status"]["put"], text)
        return answer is not None and answer.status == 200

    def earlier(self) -> dict[str, Any]:
        """Return the status that another container of this run has left; an empty one for none."""
        answer = self.wire.ask("GET", self.links["status"]["get"])
        said = self.proven(answer.body) if answer.status == 200 else {}
        return {} if said.get("container") in ("", self.container) else said

    def orders(self) -> dict[str, Any]:
        """Return what controllers want and was not heard before, an empty order for nothing new."""
        answer = try_once(self.wire, "GET", self.links["orders"], headers={"If-None-Match": self.tag} if self.tag else {})
        if answer is None or answer.status != 200:
            return {}
        self.tag = answer.headers.get("etag", "")
        said = self.proven(answer.body)
        number = said.get("number")
        if not isinstance(number, int) or number <= self.number:
            return {}
        self.number = number
        return said

    def proven(self, body: bytes) -> dict[str, Any]:
        """Return what was written by who knows the run's secret, nothing for anything else."""
        said = loads(body)
        mac = str(said.pop("mac", ""))
        return said if hmac.compare_digest(mac, mac_of(self.secret, said)) else {}
