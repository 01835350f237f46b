"""Faults that can be switched on: each named after what was seen in the wild, each a row of data.

``Faults.met`` hands a matching fault to the server and counts it down. A fault is on for a number of calls, for some
seconds, or until it is cleared; the state lies on disk, so another process can switch it too.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainyard.errors import UserError
from trainyard.filelock import hold_lock
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json

Kind = Literal["reply", "alter", "boot", "life", "key", "clock", "stock", "lag", "price", "page"]
EVERY = "*"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``on``: the call it meets (see Route; ``*``: each), "" for faults of pods and of the whole service.

    What a ``reply`` does: ``status`` with ``page`` (HTML), ``raw`` (text), ``body`` (JSON) or else an error in the
    cloud's form; ``refusal``, one of the cloud's own; ``cut``, the true answer broken off; ``another``, a pod that was
    not asked for; ``ignored``, success and nothing done; ``headers``; ``hang`` (``silent`` seconds), ``drop``, ``delay``;
    ``after``: what was asked for is done first; ``how``: a change of the true answer (alter.py).
    """

    name: str
    kind: Kind
    on: str
    seen: str
    does: Mapping[str, Any] = field(default_factory=dict)


def reply(name: str, on: str, seen: str, **does: Any) -> Fault:
    """Return a fault that answers in the place of the API."""
    return Fault(name, "reply", on, seen, does)


def _alter(name: str, on: str, seen: str, how: str) -> Fault:
    return Fault(name, "alter", on, seen, {"how": how})


def _boot(name: str, seen: str, **does: Any) -> Fault:
    return Fault(name, "boot", "", seen, does)


FAULTS = (
    reply("create-500-before", "create", "transient upstream failure, nothing made", status=500),
    reply("create-500-after", "create", "a create that fails for the client and still bills", status=500, after=True),
    reply("create-502-page-before", "create", "a page of the proxy in front of the API", status=502, page=True),
    reply("create-502-page-after", "create", "the proxy gave up, the API did not", status=502, page=True, after=True),
    reply("create-hangs-before", "create", "no answer, nothing made", hang=True),
    reply("create-hangs-after", "create", "the pod is made, the answer never comes", hang=True, after=True),
    reply("create-reset-before", "create", "connection reset before the request was read", drop=True),
    reply("create-reset-after", "create", "connection reset after the pod was made", drop=True, after=True),
    reply("create-slow", "create", "a create slower than a 20 s client timeout loses the id", delay=3.0),
    reply("create-no-capacity", "create", "the catalog said yes, the create says no", refusal="no capacity"),
    reply("create-rule-broken", "create", "a broken rule may look just like no capacity", refusal="rule broken"),
    reply("create-no-balance", "create", "less credit than the pod needs", refusal="no balance"),
    reply("create-pool-forbidden", "create", "this account may not use that pool", refusal="forbidden"),
    reply("create-forbidden-page", "create", "a firewall's page instead of the API's answer", status=403, page=True),
    reply("create-unauthorized", "create", "key revoked", refusal="unauthorized"),
    reply("create-rate-limited", "create", "429 with Retry-After", status=429, headers={"Retry-After": "1"}),
    reply("create-rate-limited-mutely", "create", "429 without Retry-After", status=429),
    reply("create-redirected", "create", "a captive portal", status=302, page=True, headers={"Location": "http://127.0.0.1:9/login"}),
    reply("create-without-id", "create", "an accepted create without an id", body={}, after=True),
    reply("create-empty-answer", "create", "accepted, and no body", raw="", after=True),
    reply("create-cut-answer", "create", "the answer breaks off", cut=True, after=True),
    reply("list-500", "list", "transient upstream failure", status=500),
    reply("list-hangs", "list", "no answer", hang=True),
    reply("list-cut", "list", "the answer breaks off in the middle of a pod", cut=True),
    reply("list-page", "list", "a proxy's page with status 200", status=200, page=True),
    reply("list-rate-limited", "list", "429 with Retry-After", status=429, headers={"Retry-After": "1"}),
    _alter("list-empty", "list", "not found right after create is no proof of absence", "empty"),
    _alter("list-misses-one", "list", "the newest pod is left out, all others are there", "misses one"),
    _alter("list-without-ids", "list", "200 with pods that have no id", "without ids"),
    _alter("list-null", "list", "200 with null instead of pods", "null"),
    _alter("list-empty-with-error", "list", "200, an empty list, and an error beside it", "empty with error"),
    _alter("list-twice", "list", "items listed twice", "twice"),
    _alter("list-unknown-status", "list", "a status nobody knew (SkyPilot: KeyError on EXITED)", "unknown status"),
    _alter("list-unknown-fields", "list", "fields that a newer server adds", "unknown fields"),
    _alter("list-null-fields", "list", "null where an object was promised", "null fields"),
    Fault("list-late", "lag", "", "a new pod shows in the list only after a while", {"list": True}),
    Fault("get-late", "lag", "", "'not found' for a pod that was just made", {"get": True}),
    Fault("deleted-still-listed", "lag", "", "an ended pod stays on the list for a while", {"ghost": True}),
    reply("get-500", "get", "transient upstream failure", status=500),
    reply("get-404-page", "get", "a proxy's 404, which says nothing about the pod", status=404, page=True),
    reply("get-404-untrue", "get", "the cloud's own 'not found' for a pod that runs", refusal="not found"),
    reply("get-another", "get", "200 with another pod's id", another=True),
    reply("delete-404-untrue", "delete", "the cloud's own 'not found', and the pod lives on", refusal="not found"),
    reply("delete-500", "delete", "500 to every terminate for 20 minutes, then fine", status=500),
    reply("delete-500-after", "delete", "ended, but the client was told 500", status=500, after=True),
    reply("delete-hangs-before", "delete", "no answer, nothing ended", hang=True),
    reply("delete-hangs-after", "delete", "ended, the answer never comes", hang=True, after=True),
    reply("delete-reset-before", "delete", "connection reset", drop=True),
    reply("delete-404-page", "delete", "a proxy's 404 taken for 'already gone' leaves the pod billing", status=404, page=True),
    reply("delete-ignored", "delete", "success, and the pod lives on", ignored=True),
    reply("delete-forbidden", "delete", "the key may read but not end", refusal="forbidden"),
    reply("delete-rate-limited", "delete", "429 with Retry-After", status=429, headers={"Retry-After": "1"}),
    _boot("boot-stuck-provisioning", "never gets a machine, while billing", stuck="PROVISIONING"),
    _boot("boot-stuck-starting", "a readiness loop without bound waits for ever", stuck="STARTING"),
    _boot("boot-pull-fails", "the image cannot be pulled", stuck="STARTING",
          system=["pull image", "error pulling image: manifest unknown"]),
    _boot("boot-exec-format", "an image for another processor", restarts=True, container=["exec /entrypoint.sh: exec format error"]),
    _boot("boot-restart-loop", "the entrypoint exits again and again", restarts=True, container=["entrypoint: no such file"]),
    _boot("boot-error", "an error instead of a running pod", error=True),
    _boot("boot-no-port", "running without a public port (no public IP)", ports=False),
    _boot("boot-port-late", "the port comes 90 s after 'running'", ports_after=3.0),
    _boot("boot-stale-port", "running with the port of another pod for ~90 s", stale=3.0),
    _boot("boot-slow", "allocated only after a while", slow=3.0),
    Fault("pod-dies", "life", "", "a pod vanishes by itself", {"into": "gone"}),
    Fault("pod-exits", "life", "", "stopped by the cloud; its disks are billed on", {"into": "EXITED"}),
    Fault("container-restarts", "life", "", "the container died and was started again", {"into": "restart"}),
    Fault("pod-key-refused", "key", "", "the pod's own key may not end its pod", {"status": 403}),
    Fault("pod-key-blind", "key", "", "the pod's own key sees nothing", {"status": 404}),
    Fault("pod-key-absent", "key", "", "no key is put into the pod", {"absent": True}),
    Fault("clock-behind", "clock", "", "the cloud's clock is an hour behind", {"seconds": -3600}),
    Fault("clock-ahead", "clock", "", "the cloud's clock is an hour ahead", {"seconds": 3600}),
    Fault("create-dearer", "price", "", "the create's answer names another price than the catalog", {"factor": 10.0}),
    Fault("sold-out", "stock", "", "stock-outs of a type, a place or all", {"what": ["*"]}),
    Fault("short-pages", "page", "", "a list of more pages than anyone has tried", {"size": 2}),
    reply("catalog-500", "catalog", "transient upstream failure", status=500),
    reply("everything-500", EVERY, "an outage", status=503),
    # Any lie that a test says: an answer of its own, or "how".
    reply("lie-create", "create", "whatever a test says", status=500),
    reply("lie-list", "list", "whatever a test says", status=500),
    reply("lie-get", "get", "whatever a test says", status=500),
    reply("lie-delete", "delete", "whatever a test says", status=500),
    reply("lie-catalog", "catalog", "whatever a test says", status=500),
)  # fmt: skip
"""What every cloud's emulator can be told to do."""


@dataclass(slots=True)
class Faults:
    """Which faults of a table are on."""

    root: Path
    table: Sequence[Fault]
    now: Callable[[], float] = time.time
    _named: Mapping[str, Fault] = field(init=False)
    _file: str = field(init=False)
    _seen: tuple[tuple[int, int, int], list[dict[str, Any]]] = ((0, 0, 0), [])
    """What the file held when it was read last, and by what that is known."""

    def __post_init__(self) -> None:
        self._file = str(self.root / "faults.json")
        self._named = {fault.name: fault for fault in self.table}

    def on(self, name: str, *, times: int | None = None, seconds: float | None = None, **does: Any) -> None:
        """Switch a fault on: for a number of calls, for some seconds, or until it is cleared; ``does`` changes its row."""
        if name not in self._named:
            raise UserError(f"there is no fault '{name}'")
        until = None if seconds is None else self.now() + seconds

        def add(active: list[dict[str, Any]]) -> None:
            active[:] = [row for row in active if row["name"] != name]
            active.append({"name": name, "times": times, "until": until, "does": does})

        self._change(add)

    def off(self, name: str | None = None) -> None:
        """Clear one fault, or all."""

        def drop(active: list[dict[str, Any]]) -> None:
            active[:] = [row for row in active if name is not None and row["name"] != name]

        self._change(drop)

    def active(self) -> list[dict[str, Any]]:
        """Return the rows that are on, without counting."""
        return [row for row in self._read() if row["until"] is None or row["until"] > self.now()]

    def met(self, kind: Kind, call: str = "") -> Mapping[str, Any] | None:
        """Return what the first active fault of a kind does to a call, and count it; None when none is on."""
        if not any(self._matches(row, kind, call) for row in self.active()):
            return None
        taken: list[Mapping[str, Any]] = []

        def count(active: list[dict[str, Any]]) -> None:
            for row in active:
                if not taken and self._matches(row, kind, call) and (row["until"] is None or row["until"] > self.now()):
                    taken.append({"name": row["name"], **self._named[row["name"]].does, **row["does"]})
                    if row["times"] is not None:
                        row["times"] -= 1
            active[:] = [row for row in active if row["times"] is None or row["times"] > 0]

        self._change(count)
        return taken[0] if taken else None

    def _matches(self, row: Mapping[str, Any], kind: Kind, call: str) -> bool:
        fault = self._named[row["name"]]
        return fault.kind == kind and fault.on in ("", EVERY, call)

    def _read(self) -> list[dict[str, Any]]:
        # Asked for each pod of a list: without a file, or with one that was read, that is one question to the disk.
        try:
            seen = os.stat(self._file)
        except FileNotFoundError:
            return []
        mark = (seen.st_ino, seen.st_mtime_ns, seen.st_size)  # it is only ever replaced as a whole
        if mark != self._seen[0]:
            self._seen = (mark, self._parsed())
        return copy.deepcopy(self._seen[1]) if self._seen[1] else []

    def _parsed(self) -> list[dict[str, Any]]:
        try:
            rows = parse_json(Path(self._file).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return []
        return rows if isinstance(rows, list) else []

    def _change(self, change: Callable[[list[dict[str, Any]]], None]) -> None:
        with hold_lock(self.root / "faults.lock"):
            rows = self._parsed()
            change(rows)
            write_atomic(Path(self._file), json.dumps(rows), durable=False)
