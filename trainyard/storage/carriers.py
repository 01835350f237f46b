"""The processes that fetch large results (carrier.py): started, given orders, heard. What one does not bring is its caller's."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainyard.jsontext import parse_json
from trainyard.storage.client import CONNECT_TIMEOUT, READ_TIMEOUT, StoreSettings
from trainyard.storage.reader import way_of

PROCESSES = 2
"""Each fills a core with 0.7 GB a second and takes 20 MiB of memory."""
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OPENSSL_CONF", "OPENSSL_MODULES", "LANG", "LC_ALL", "LC_CTYPE")
"""What they have of our environment, which holds keys: how Python and its TLS are found."""
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from trainyard.storage.carrier import main; main()"


@dataclass(frozen=True, slots=True)
class Carried:
    """How far a range has come; all of it: its sha256, where that was asked for."""

    at: int
    sha256: str | None = None


@dataclass(slots=True)
class _Carriage:
    at: int
    heard: Callable[[int], None]
    outcome: Future[Carried] = field(default_factory=Future)

    def move(self, to: int) -> None:
        step, self.at = to - self.at, to
        self.heard(step)


class Carriers:
    """All of them for one store."""

    def __init__(self, settings: StoreSettings, lock: int) -> None:
        """Start them; each holds the lock of the folder, so that nobody else begins there while one still writes."""
        way = way_of(settings)
        proxy = urlsplit(way.proxy or "")
        first = {
            "proxy": [proxy.hostname, proxy.port or 80] if way.proxy else None, "headers": dict(way.headers),
            "certificates": way.certificates, "connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT,
        }  # fmt: skip
        self.over = False
        self._all = [_Process(first, lock) for _ in range(PROCESSES)]

    @property
    def cpu(self) -> float:
        """The CPU seconds that they have used."""
        return sum(one.cpu for one in self._all)

    def carry(self, url: str, path: Path, start: int, end: int, *, hashed: bool, heard: Callable[[int], None]) -> Carried:
        """Fetch a range of an object into a file, by the process with the least to do; ``heard`` is told of bytes that have come."""
        order, parts = _Carriage(start, heard), urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = {"host": parts.hostname, "port": port, "netloc": parts.netloc, "target": f"{parts.path}?{parts.query}"}
        place = {"path": os.fsencode(path).decode("latin-1"), "at": start, "end": end}
        what = {**address, **place, "hashed": hashed, "last": False}
        min(self._all, key=lambda one: len(one.orders)).give(order, what)
        return order.outcome.result()

    def end(self) -> None:
        """End them; what is under way is left where it is."""
        self.over = True
        for one in self._all:
            one.end()


class _Process:
    def __init__(self, first: dict[str, Any], lock: int) -> None:
        self.orders: dict[int, _Carriage] = {}
        self.cpu, self._numbers, self._writing, self._dead = 0.0, itertools.count(), threading.Lock(), False
        root = str(Path(__file__).resolve().parents[2])
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, root],
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,  # Ctrl-C is ours to hear; it ends with its stdin
            pass_fds=(lock,),
        )
        self._write(first)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def give(self, order: _Carriage, what: dict[str, Any]) -> None:
        """Hand an order over; one that cannot be is over."""
        number = next(self._numbers)
        with self._writing:
            if self._dead:
                order.outcome.set_result(Carried(order.at))
                return
            self.orders[number] = order
            self._write({"id": number, **what})

    def end(self) -> None:
        """End the process, by the end of its orders."""
        with suppress(OSError):
            self._child.stdin.close()  # type: ignore[union-attr]
        self._child.wait()
        self._listener.join()
        self._child.stdout.close()  # type: ignore[union-attr]

    def _write(self, what: dict[str, Any]) -> None:
        with suppress(OSError):  # one that is dead is heard of by the listener
            self._child.stdin.write(json.dumps(what) + "\n")  # type: ignore[union-attr]
            self._child.stdin.flush()  # type: ignore[union-attr]

    def _listen(self) -> None:
        try:
            for line in self._child.stdout or ():
                said = parse_json(line)
                self.cpu = said["cpu"]
                self.orders[said["id"]].move(said["at"])
                if said.get("over"):
                    order = self.orders.pop(said["id"])
                    order.outcome.set_result(Carried(order.at, said["sha256"]))
        except ValueError:
            pass  # it was killed in the middle of a word
        finally:
            with self._writing:
                self._dead = True
            for order in self.orders.values():
                order.outcome.set_result(Carried(order.at))
            self.orders.clear()
