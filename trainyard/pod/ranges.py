"""Ranges of objects: what they are read from, and where a redirection leads.

Standard library only, Python 3.8 or newer; runs ON the pod.
"""

from __future__ import annotations

from typing import Any

from trainyard.pod.links import NO_ANSWER, Links


class StoreAnswer(Exception):
    """The store answered, and not with the bytes. ``status`` is HTTP's, ``code`` the store's own word."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Body:
    """What a range is read from; left before its end, its connection is of no use any more."""

    def __init__(self, stream: Any, links: Links | None) -> None:
        self.stream, self.links = stream, links

    def __enter__(self) -> Body:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.links is None:
            self.stream.close()
        elif kind is not None or self.stream.will_close or self.stream.read(1):
            self.links.drop()


def open_mounted(path: str, start: int) -> Body:
    """Open an object that is a file here."""
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 (the body closes it)
    except FileNotFoundError:
        raise StoreAnswer(404, "NoSuchKey") from None
    file.seek(start)
    return Body(file, None)


def read_into(body: Body, view: memoryview) -> int:
    """Read what comes next; raises ConnectionError at an end that comes too early."""
    got = body.stream.readinto(view)
    if not got:
        raise ConnectionError("cut off")
    return int(got)


def absolute(url: str, moved: str) -> str:
    """Return where a redirection leads; from https only to https."""
    import urllib.parse

    target = urllib.parse.urljoin(url, moved)
    if url.startswith("https:") and not target.startswith("https:"):
        raise StoreAnswer(NO_ANSWER, "redirected away from https")
    return target
