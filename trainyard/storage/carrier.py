"""Fetch ranges of objects into files, in a process of its own: in one, threads that receive wait for each other.

It shall have begun at once and cost little, so it loads next to nothing and speaks just the HTTP that it needs: an answer
is a 206 (200) of a stated length with the bytes that were asked for, or it has not come. It holds no key, each order is a
signed URL, and tries nothing twice: what has not come is told, and is the business of whoever ordered it (carriers.py).

    the way to the store, then orders, as lines on stdin -> lines on stdout; it ends when stdin does
"""

from __future__ import annotations

import os
import queue
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from hashlib import sha256
from json import dumps
from typing import Any

from trainyard.jsontext import parse_json

BLOCK = 256 * 1024
TAKEN = 256 * 1024
"""Bytes that are asked of the socket at once, at most: begun with less, for small answers and slow lines bring no more."""
_FIRST_TAKEN = 64 * 1024
_HEAD = 64 * 1024
"""Bytes of an answer's headers, at most."""
TELL = 0.1
"""Seconds between two words on one order."""


class _Bulk:
    """A TLS connection that takes much from the socket at once and decrypts it from memory.

    Python's own asks the system twice for every record: that costs 1.3 CPU s a GB instead of 0.8 (measured side by side).
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self._plain, self._incoming, self._outgoing = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._space = memoryview(bytearray(_FIRST_TAKEN))
        while True:
            try:
                self._tls.do_handshake()
                return self._send()
            except ssl.SSLWantReadError:
                if not self._take():
                    raise ConnectionError from None

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._tls.write(data)
        self._send()

    def recv_into(self, view: memoryview) -> int:
        """Fill a buffer as far as what has arrived goes; 0 at the end."""
        done, size, read = 0, len(view), self._tls.read
        while done < size:
            try:
                if not (got := read(size - done, view[done:])):
                    break
                done += int(got)
            except ssl.SSLWantReadError:
                if done or not self._take():
                    break
        return done

    def close(self) -> None:
        """Close the connection."""
        self._plain.close()

    def _take(self) -> int:
        self._send()  # what TLS itself has to say, as a new key
        got = self._plain.recv_into(self._space)
        self._incoming.write(self._space[:got])
        if got == len(self._space) < TAKEN:
            self._space = memoryview(bytearray(2 * got))
        return got

    def _send(self) -> None:
        if self._outgoing.pending:
            self._plain.sendall(self._outgoing.read())


class _Carrier:
    """Carry out orders, each on a thread that keeps its connection."""

    def __init__(self, way: dict[str, Any]) -> None:
        self._way, self._lock, self._orders = way, threading.Lock(), queue.SimpleQueue[dict[str, Any]]()
        self._under_way = self._threads = 0
        self._context: ssl.SSLContext | None = None
        if trusted := way["certificates"]:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.load_verify_locations(**{"capath" if os.path.isdir(trusted) else "cafile": trusted})

    def take(self, order: dict[str, Any]) -> None:
        """Let an order be carried out."""
        with self._lock:
            self._under_way += 1
            if more := self._under_way > self._threads:
                self._threads += 1
        self._orders.put(order)
        if more:
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        space, link = memoryview(bytearray(BLOCK)), None
        while True:
            order, digest = self._orders.get(), None
            order["told"] = time.monotonic()
            while digest is None:
                kept, began = link is not None, order["at"]
                with suppress(OSError):  # told by what is missing: whoever tries again says it better
                    link = link or self._connect(order)
                    link.sendall(self._request(order))
                    digest = self._receive(link, order, space)
                if link and (digest is None or order["last"]):
                    link.close()
                    link = None
                if not kept or order["at"] > began:
                    break  # else the store may only have closed what was kept
            with self._lock:
                self._under_way -= 1
            self._say(order, sha256=digest, over=True)

    def _connect(self, order: dict[str, Any]) -> socket.socket | _Bulk:
        proxy = self._way["proxy"]
        plain = socket.create_connection(proxy or (order["host"], order["port"]), self._way["connect"])
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(self._way["read"])
        if not self._context:
            return plain
        if proxy:
            to = f"{order['host']}:{order['port']}"
            plain.sendall(_lines(f"CONNECT {to} HTTP/1.1", {"Host": to, **self._way["headers"]}))
            if _head(plain, memoryview(bytearray(_HEAD)))[0] != b"200":
                raise ConnectionError
        return _Bulk(plain, self._context, order["host"])

    def _request(self, order: dict[str, Any]) -> bytes:
        by_proxy = self._way["proxy"] and not self._context
        target = f"http://{order['netloc']}{order['target']}" if by_proxy else order["target"]
        span = {"Host": order["netloc"], "Range": f"bytes={order['at']}-{order['end'] - 1}"}
        return _lines(f"GET {target} HTTP/1.1", {**span, **(self._way["headers"] if by_proxy else {})})

    def _receive(self, link: socket.socket | _Bulk, order: dict[str, Any], space: memoryview) -> str | None:
        """Write the bytes of an answer; returns their sha256 ('' where none is asked for), None where they are not what was ordered."""
        status, headers, got, have = _head(link, space)
        order["last"] = headers.get(b"connection", b"").lower() == b"close"
        right = status == b"206" or (status == b"200" and not order["at"])
        if not right or headers.get(b"content-length") != b"%d" % (order["end"] - order["at"]):
            return None
        digest, view = sha256(), space[got:have]
        handle = os.open(order["path"].encode("latin-1"), os.O_WRONLY | os.O_CLOEXEC)
        try:
            while True:
                if order["hashed"]:
                    digest.update(view)
                _write(handle, view, order["at"])
                order["at"] += len(view)
                self._tell(order)
                if order["at"] >= order["end"]:
                    return digest.hexdigest() if order["hashed"] else ""
                view = space[: link.recv_into(space[: order["end"] - order["at"]])]
                if not view:
                    return None
        finally:
            os.close(handle)

    def _tell(self, order: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - order["told"] >= TELL:
            order["told"] = now
            self._say(order)

    def _say(self, order: dict[str, Any], **more: Any) -> None:
        with self._lock:
            print(dumps({"id": order["id"], "at": order["at"], "cpu": time.process_time(), **more}), flush=True)


def _lines(first: str, headers: dict[str, str]) -> bytes:
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode("latin-1")


def _head(link: socket.socket | _Bulk, space: memoryview) -> tuple[bytes, dict[bytes, bytes], int, int]:
    """Read an answer's head; returns status, headers (names in small letters), where the body begins and how far it has come."""
    have = 0
    while (end := bytes(space[:have]).find(b"\r\n\r\n")) < 0:
        got = link.recv_into(space[have:_HEAD])
        if not got:
            raise ConnectionError
        have += got
    first, *lines = bytes(space[:end]).split(b"\r\n")
    named = (line.partition(b":") for line in lines)
    return first[9:12], {name.lower(): value.strip() for name, _, value in named}, end + 4, have


def _write(handle: int, view: memoryview, offset: int) -> None:
    while view:
        done = os.pwrite(handle, view, offset)
        view, offset = view[done:], offset + done


def main() -> None:
    """Carry out the orders on stdin."""
    carrier = _Carrier(parse_json(sys.stdin.readline()))
    for line in sys.stdin:
        carrier.take(parse_json(line))
    os._exit(0)  # whoever ordered is gone, or wants no more: nothing under way counts
