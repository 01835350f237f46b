"""The one way every cloud client speaks HTTP: what is tried again, how long it waits, when it gives up.

Reads and deletes are tried again with growing, jittered pauses; ``Retry-After`` and rate-limit headers are obeyed.
A create is sent once: only what certainly never reached the cloud (no connection) or was turned away at its door
(429) is sent again, all within one time limit. A circuit breaker spares a failing cloud the requests that can wait;
a list or a terminate never waits for it. An answer that drips, or never ends, is no answer: its connection is cut.
"""

from __future__ import annotations

import random
import re
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from trainyard import network
from trainyard.clouds.intervals import Intervals
from trainyard.errors import CloudRefused, CloudUnknown, UserError
from trainyard.retries import Backoff

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Failures before the first byte of a request left for the cloud."""

LONGEST_ANSWER = 256 * 2**20
"""Bytes of an answer after which it is none: ten thousand pods, listed with the 14 kB of arguments that start each, have 160 million."""

_OF_THE_BODY = (b"content-encoding", b"content-length", b"transfer-encoding")
_LIMIT = re.compile(r'"[^"]*"((?:;\s*[a-z]+=\d+)+)')


@dataclass(frozen=True, slots=True)
class Pace:
    """Clock, sleep and chance, so that tests need not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Retry:
    """How stubborn a request is: ``attempts`` in all, within ``limit`` seconds."""

    attempts: int
    limit: float


PAUSES = Backoff(0.5, 20.0, chance=0.5)
READ = Retry(attempts=6, limit=90)
URGENT = Retry(attempts=8, limit=90)


@dataclass(slots=True)
class Breaker:
    """Opens after several failures in a row, for a while; any success closes it."""

    after: int = 5
    cooling: float = 30.0
    failures: int = 0
    opened: float = 0.0

    def left(self, now: float) -> float:
        """Return the seconds for which it is still open."""
        return max(0.0, self.opened + self.cooling - now) if self.failures >= self.after else 0.0

    def note(self, ok: bool, now: float) -> None:
        """Take in the outcome of a request."""
        self.failures = 0 if ok else self.failures + 1
        if self.failures >= self.after:
            self.opened = now


@dataclass(slots=True)
class _Wires:
    """The sockets of one client, as httpcore tells of them: what times each read of an answer never times the whole."""

    open: weakref.WeakSet[socket.socket] = field(default_factory=weakref.WeakSet)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def limited(self, seconds: float) -> Iterator[Callable[[str, Any], None]]:
        """Cut them when the block is not over in time, and raise httpx.ReadTimeout; yields the ``trace`` that a request needs."""
        over = threading.Event()

        def cut() -> None:
            with self.lock:
                over.set()
                for wire in list(self.open):
                    _shut(wire)

        def trace(name: str, details: Any) -> None:
            if name.endswith(("connect_tcp.complete", "start_tls.complete")):
                with self.lock:
                    self.open.add(wire := details["return_value"].get_extra_info("socket"))
                    if over.is_set():
                        _shut(wire)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield trace
        except httpx.HTTPError as error:
            # A request that never left stays what it is.
            if not over.is_set() or isinstance(error, NEVER_SENT):
                raise
        finally:
            timer.cancel()
        if over.is_set():  # the end of a cut answer may look like its own
            raise httpx.ReadTimeout(f"no whole answer within {seconds:.0f} s")


def _shut(wire: socket.socket) -> None:
    with suppress(OSError):
        # That of an SSL socket drops its TLS first, and who reads meanwhile would take what is encrypted for the answer.
        socket.socket.shutdown(wire, socket.SHUT_RDWR)


@dataclass(slots=True)
class Api:
    """One cloud's API at one address."""

    cloud: str
    base: str
    headers: Mapping[str, str] = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pace: Pace = field(default_factory=Pace)
    timeout: float = 30.0
    breaker: Breaker = field(default_factory=Breaker)
    intervals: Intervals = field(default_factory=Intervals)
    final: Callable[[httpx.Response], bool] = lambda response: False
    """Tells of an answer that no other try changes, whatever its status says."""
    _client: httpx.Client | None = None
    _wires: _Wires = field(default_factory=_Wires)
    _offset: timedelta | None = None
    _blocked_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, path: str, params: Mapping[str, str] | None = None, *, urgent: bool = False) -> httpx.Response:
        """GET until an answer that is neither 429 nor 5xx comes; raises CloudUnknown when none does in time."""
        return self._stubborn("GET", path, params=params, urgent=urgent)

    def delete(self, path: str) -> httpx.Response:
        """DELETE, as stubborn as a read; never held up by the breaker."""
        return self._stubborn("DELETE", path, urgent=True)

    def ask(self, path: str, body: object, params: Mapping[str, str] | None = None, *, urgent: bool = False) -> httpx.Response:
        """POST something that changes nothing when repeated (a query)."""
        return self._stubborn("POST", path, params=params, body=body, urgent=urgent)

    def put(self, path: str, body: object) -> httpx.Response:
        """PUT something that is the same when it is put twice."""
        return self._stubborn("PUT", path, body=body)

    def create(
        self, path: str, body: object, *, limit: float, method: str = "POST", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send something that must not happen twice; returns whatever answer came within ``limit`` seconds.

        Raises CloudRefused when it certainly never reached the cloud, CloudUnknown when that is not certain.
        """
        start, attempt = self.pace.now(), 0
        open_for = self.breaker.left(start)
        if open_for:
            raise CloudRefused(f"{self.cloud} keeps failing; nothing was sent. Next try possible in {open_for:.0f} s")
        while True:
            attempt += 1
            interval = self.intervals.keep(f"{method} {path}", self.pace.now, self.pace.sleep)
            left = limit - (self.pace.now() - start)
            try:
                # A connection of its own: one kept open may die just as the request leaves, and then nobody knows.
                with self._fresh() as client:
                    client.headers.update(headers or {})
                    response = _whole(client, _Wires(), left, method, self.base + path, json=body, timeout=self._create_timeout(left))
            except NEVER_SENT as error:
                self.breaker.note(False, self.pace.now())
                wait = PAUSES.pause(attempt, self.pace.chance)
                if attempt >= 3 or self.pace.now() - start + wait > limit / 3:
                    raise CloudRefused(f"{self.cloud} cannot be reached ({_say(error)}); nothing was created") from None
            except httpx.HTTPError as error:
                self.breaker.note(False, self.pace.now())
                raise CloudUnknown(f"{self.cloud} gave no answer to the create request ({_say(error)})") from None
            else:
                self._note(response)
                again = response.status_code == 429 and not self.final(response)
                wait = max(retry_after(response), interval) if again else -1.0
                if wait < 0 or self.pace.now() - start + wait > limit / 3:
                    return response
            self.pace.sleep(wait)

    @contextmanager
    def stream(self, path: str, params: Mapping[str, str], *, idle: float) -> Iterator[httpx.Response]:
        """GET an answer that never ends; raises httpx.ReadTimeout after ``idle`` silent seconds, and when it goes on for ``timeout``."""
        with self._fresh() as client, _Wires().limited(self.timeout) as trace:
            timeout = httpx.Timeout(self.timeout, read=idle)
            with client.stream("GET", self.base + path, params=dict(params), timeout=timeout, extensions={"trace": trace}) as response:
                yield response

    def now(self) -> datetime | None:
        """Return the cloud's clock as its last answer told it."""
        return None if self._offset is None else datetime.now(UTC) + self._offset

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __del__(self) -> None:
        # Whoever opens a cloud for one question does not think of its connections.
        self.close()

    def _stubborn(self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None,
                  urgent: bool = False) -> httpx.Response:  # fmt: skip
        retry = URGENT if urgent else READ
        start = self.pace.now()
        if not urgent:
            self._wait_for_room()
        for attempt in range(1, retry.attempts + 1):
            interval = self.intervals.keep(f"{method} {path}", self.pace.now, self.pace.sleep)
            whole = min(2 * self.timeout, max(1.0, start + retry.limit - self.pace.now()))
            try:
                arguments: dict[str, Any] = {"params": dict(params or {}), "json": body, "timeout": self.timeout}
                response = _whole(self._shared(), self._wires, whole, method, self.base + path, **arguments)
            except httpx.HTTPError as error:
                self.breaker.note(False, self.pace.now())
                what, wait = _say(error), PAUSES.pause(attempt, self.pace.chance)
            else:
                self._note(response)
                if (response.status_code != 429 and response.status_code < 500) or self.final(response):
                    return response
                what = f"HTTP {response.status_code}"
                wait = max(retry_after(response), interval, PAUSES.pause(attempt, self.pace.chance))
            if attempt == retry.attempts or self.pace.now() - start + wait > retry.limit:
                break
            self.pace.sleep(wait)
        raise CloudUnknown(f"{self.cloud}: {method} {path} was tried {attempt} times, the last answer was: {what}")

    def _create_timeout(self, left: float) -> httpx.Timeout:
        """Return time limits whose sum is within ``left``: after it, nothing may reach the cloud any more."""
        short = min(10.0, self.timeout, left / 4)
        return httpx.Timeout(short, read=max(0.05, min(2 * self.timeout, left - 2 * short)))

    def _wait_for_room(self) -> None:
        """Hold up a request that can wait: for a spent rate limit, or by failing at once while the breaker is open."""
        now = self.pace.now()
        if (left := self.breaker.left(now)) > 0:
            raise CloudUnknown(f"{self.cloud} keeps failing; the next try is possible in {left:.0f} s")
        if self._blocked_until > now:
            self.pace.sleep(min(self._blocked_until - now, READ.limit))

    def _note(self, response: httpx.Response) -> None:
        self.breaker.note(response.status_code < 500, self.pace.now())
        spent = exhausted_for(response.headers.get("RateLimit", ""))
        self._blocked_until = self.pace.now() + spent if spent else 0.0
        server_time = _moment(response.headers.get("Date", ""))
        self._offset = server_time - datetime.now(UTC) if server_time is not None else self._offset

    def _shared(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = self._fresh()
            return self._client

    def _fresh(self) -> httpx.Client:
        # Its own reading of the environment would not know `.env`.
        proxy, verify = network.proxy_for(self.base, self.env), _trust(self.base, self.env)
        return httpx.Client(headers=dict(self.headers), trust_env=False, verify=verify, proxy=proxy)


def _whole(client: httpx.Client, wires: _Wires, within: float, method: str, url: str, **arguments: Any) -> httpx.Response:
    """Return an answer read to its end; raises httpx.HTTPError where it is not whole in time, or longer than any that is meant."""
    body = bytearray()
    with wires.limited(within) as trace, client.stream(method, url, extensions={"trace": trace}, **arguments) as response:
        for part in response.iter_bytes():
            body += part
            if len(body) > LONGEST_ANSWER:
                raise httpx.ReadError(f"its answer is longer than {LONGEST_ANSWER:,} bytes")
    kept = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_BODY]
    return httpx.Response(response.status_code, headers=kept, content=bytes(body), request=response.request)


def check_address(name: str, value: str) -> str:
    """Return a base URL without its last slash; raises UserError unless it is https, or http on this machine."""
    parts = network.web_address(name, value)
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UserError(f"{name}: '{value}' would carry the key in clear text; use https")
    return value.rstrip("/")


def retry_after(response: httpx.Response) -> float:
    """Return the seconds a 429 or 503 asks to wait, 1 when it says nothing one can read."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    if (moment := _moment(text)) is not None:
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    return max(1.0, exhausted_for(response.headers.get("RateLimit", "")))


def _moment(text: str) -> datetime | None:
    """Return the moment of an HTTP date, None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def exhausted_for(header: str) -> float:
    """Return for how many seconds a ``RateLimit`` header says that nothing is left, 0 when something is."""
    longest = 0.0
    for match in _LIMIT.finditer(header):
        numbers = dict(re.findall(r"([a-z]+)=(\d+)", match[1]))
        if numbers.get("r") == "0":
            longest = max(longest, float(numbers.get("t", "1")))
    return longest


def _trust(base: str, env: Mapping[str, str]) -> ssl.SSLContext:
    if base.startswith("http://"):
        # Nothing is encrypted here, and loading a bundle costs more than the whole request; it trusts nobody.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return network.trust(env) or httpx.create_ssl_context(trust_env=False)


def _say(error: httpx.HTTPError) -> str:
    # What our own side found wrong in a request quotes the request, headers and all.
    return type(error).__name__ if isinstance(error, httpx.LocalProtocolError) else str(error) or type(error).__name__
