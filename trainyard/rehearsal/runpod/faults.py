"""Faults that can be switched on: each named after what was seen in the wild, each a row of data.

``Faults.take`` hands a matching fault to the server and counts it down. A fault is on for a number of calls, for some
seconds, or until it is cleared; the state lies on disk, so another process can switch it too.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainyard.errors import UserError
from trainyard.filelock import hold_lock
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json

Kind = Literal["reply", "alter", "boot", "life", "key", "clock", "stock", "lag", "price"]
_CREATE, _LIST, _GET, _DELETE = "POST /pods", "GET /pods", "GET /pods/ID", "DELETE /pods/ID"
_CATALOG, _GRAPHQL, _POD = "GET /catalog/.*", "POST /graphql", ".* /pods/ID"
CAPACITY = "There are no longer any instances available with the requested specifications. Please refresh and try again."


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``on``: requests it meets ("" for faults of pods and of the whole service)."""

    name: str
    kind: Kind
    on: str
    seen: str
    does: Mapping[str, Any] = field(default_factory=dict)


def _reply(name: str, on: str, seen: str, **does: Any) -> Fault:
    return Fault(name, "reply", on, seen, does)


def _alter(name: str, on: str, seen: str, how: str) -> Fault:
    return Fault(name, "alter", on, seen, {"how": how})


def _boot(name: str, seen: str, **does: Any) -> Fault:
    return Fault(name, "boot", "", seen, does)


TABLE = (
    _reply("create-500-before", _CREATE, "transient upstream failure, nothing made", status=500),
    _reply("create-500-after", _CREATE, "a create that fails for the client and still bills", status=500, after=True),
    _reply("create-502-page-before", _CREATE, "a page of the proxy in front of the API", status=502, page=True),
    _reply("create-502-page-after", _CREATE, "the proxy gave up, the API did not", status=502, page=True, after=True),
    _reply("create-hangs-before", _CREATE, "no answer, nothing made", hang=True),
    _reply("create-hangs-after", _CREATE, "the pod is made, the answer never comes", hang=True, after=True),
    _reply("create-reset-before", _CREATE, "connection reset before the request was read", drop=True),
    _reply("create-reset-after", _CREATE, "connection reset after the pod was made", drop=True, after=True),
    _reply("create-slow", _CREATE, "a create slower than a 20 s client timeout loses the id", delay=3.0),
    _reply("create-no-capacity", _CREATE, "the catalog said HIGH, the create says 400", status=400, detail=CAPACITY),
    _reply("create-rule-broken", _CREATE, "a broken rule looks just like no capacity", status=400, detail="mounts: one kind only"),
    _reply("create-no-balance", _CREATE, "less than an hour of credit", status=402, detail="insufficient balance"),
    _reply("create-pool-forbidden", _CREATE, "this account may not use that pool", status=403, detail="access denied"),
    _reply("create-forbidden-page", _CREATE, "a firewall's page instead of the API's answer", status=403, page=True),
    _reply("create-unauthorized", _CREATE, "key revoked", status=401, detail="invalid bearer token"),
    _reply("create-rate-limited", _CREATE, "429 with Retry-After", status=429, headers={"Retry-After": "1"}),
    _reply("create-rate-limited-mutely", _CREATE, "429 without Retry-After", status=429),
    _reply("create-redirected", _CREATE, "a captive portal", status=302, page=True, headers={"Location": "http://127.0.0.1:9/login"}),
    _reply("create-v1-answer", _CREATE, "the retired API v1 answers", status=400, body={"error": "imageName is required", "status": 400}),
    _reply("create-without-id", _CREATE, "an accepted create without an id", status=201, body={}, after=True),
    _reply("create-empty-answer", _CREATE, "201 and no body", status=201, raw="", after=True),
    _reply("create-cut-answer", _CREATE, "the answer breaks off", status=201, raw='{"id": "7h9k2', after=True),
    _reply("list-500", _LIST, "transient upstream failure", status=500),
    _reply("list-hangs", _LIST, "no answer", hang=True),
    _reply("list-cut", _LIST, "the answer breaks off in the middle of a pod", status=200, raw='{"pods": [{"id": "7h9'),
    _reply("list-page", _LIST, "a proxy's page with status 200", status=200, page=True),
    _reply("list-v1-array", _LIST, "API v1 answers with a bare array", status=200, body=[]),
    _reply("list-rate-limited", _LIST, "429 with Retry-After", status=429, headers={"Retry-After": "1"}),
    _alter("list-empty", _LIST, "not found right after create is no proof of absence", "empty"),
    _alter("list-misses-one", _LIST, "the newest pod is left out, all others are there", "misses one"),
    _alter("list-without-ids", _LIST, "200 with pods that have no id", "without ids"),
    _alter("list-null", _LIST, "200 with null instead of pods", "null"),
    _alter("list-empty-with-error", _LIST, "200, an empty list, and an error beside it", "empty with error"),
    _alter("list-twice", _LIST, "items listed twice", "twice"),
    _alter("list-unknown-status", _LIST, "a status nobody knew (SkyPilot: KeyError on EXITED)", "unknown status"),
    _alter("list-unknown-fields", _LIST, "fields that a newer server adds", "unknown fields"),
    _alter("list-null-fields", _LIST, "null where an object was promised", "null fields"),
    Fault("list-late", "lag", "", "a new pod shows in the list only after a while", {"list": True}),
    Fault("get-late", "lag", "", "404 for a pod that was just made", {"get": True}),
    Fault("deleted-still-listed", "lag", "", "an ended pod stays on the list for a while", {"ghost": True}),
    _reply("get-500", _GET, "transient upstream failure", status=500),
    _reply("get-404-page", _GET, "a proxy's 404, which says nothing about the pod", status=404, page=True),
    _reply("get-404-untrue", _GET, "RunPod's own 404 for a pod that runs", status=404, detail="pod not found"),
    _reply("get-another", _GET, "200 with another pod's id", status=200, body={"id": "another", "name": "another", "status": "RUNNING"}),
    _reply("delete-404-untrue", _DELETE, "RunPod's own 404, and the pod lives on", status=404, detail="pod not found"),
    _reply("delete-500", _DELETE, "500 to every terminate for 20 minutes, then fine", status=500),
    _reply("delete-500-after", _DELETE, "ended, but the client was told 500", status=500, after=True),
    _reply("delete-hangs-before", _DELETE, "no answer, nothing ended", hang=True),
    _reply("delete-hangs-after", _DELETE, "ended, the answer never comes", hang=True, after=True),
    _reply("delete-reset-before", _DELETE, "connection reset", drop=True),
    _reply("delete-404-page", _DELETE, "a proxy's 404 taken for 'already gone' leaves the pod billing", status=404, page=True),
    _reply("delete-ignored", _DELETE, "204, and the pod lives on", status=204, raw=""),
    _reply("delete-forbidden", _DELETE, "the key may read but not end", status=403, detail="access denied"),
    _reply("delete-rate-limited", _DELETE, "429 with Retry-After", status=429, headers={"Retry-After": "1"}),
    _boot("boot-stuck-provisioning", "never gets a machine, while billing", stuck="PROVISIONING"),
    _boot("boot-stuck-starting", "a readiness loop without bound waits for ever", stuck="STARTING"),
    _boot("boot-pull-fails", "the image cannot be pulled", stuck="STARTING",
          system=["pull image", "error pulling image: manifest unknown"]),
    _boot("boot-exec-format", "an image for another processor", restarts=True, container=["exec /entrypoint.sh: exec format error"]),
    _boot("boot-restart-loop", "the entrypoint exits again and again", restarts=True, container=["entrypoint: no such file"]),
    _boot("boot-error", "ERROR instead of RUNNING", error=True),
    _boot("boot-no-port", "RUNNING without a public port (no public IP)", ports=False),
    _boot("boot-port-late", "the port comes 90 s after RUNNING", ports_after=3.0),
    _boot("boot-stale-port", "RUNNING with the port of another pod for ~90 s", stale=3.0),
    _boot("boot-slow", "allocated only after a while", slow=3.0),
    Fault("pod-dies", "life", "", "a pod vanishes by itself", {"into": "gone"}),
    Fault("pod-exits", "life", "", "stopped by RunPod; the volume is billed on, at twice the price", {"into": "EXITED"}),
    Fault("container-restarts", "life", "", "the container died and was started again", {"into": "restart"}),
    Fault("pod-key-refused", "key", "", "whether the pod-scoped key may end its pod is not documented", {"status": 403}),
    Fault("pod-key-blind", "key", "", "the pod-scoped key sees nothing", {"status": 404}),
    Fault("pod-key-absent", "key", "", "no key is put into the pod", {"absent": True}),
    Fault("pod-rest-down", "key", "", "REST fails from inside the pod, GraphQL works", {"status": 500}),
    Fault("clock-behind", "clock", "", "the cloud's clock is an hour behind", {"seconds": -3600}),
    Fault("clock-ahead", "clock", "", "the cloud's clock is an hour ahead", {"seconds": 3600}),
    Fault("create-dearer", "price", "", "the create's answer names another price than the catalog", {"factor": 10.0}),
    Fault("sold-out", "stock", "", "stock-outs of a type, a data center or all", {"what": ["*"]}),
    _reply("catalog-500", _CATALOG, "transient upstream failure", status=500),
    _reply("graphql-500", _GRAPHQL, "transient upstream failure", status=500),
    _reply("graphql-null", _GRAPHQL, "HTTP 200 with a null result", status=200, body={"data": None}),
    _reply("graphql-error", _GRAPHQL, "HTTP 200 with an error inside", status=200,
           body={"errors": [{"message": "Something went wrong. Please try again later or contact support."}], "data": None}),
    _reply("everything-500", ".*", "an outage", status=503, detail="service unavailable"),
    # Any lie that a test says: an answer of its own ("status", "raw", "page", "drop", "after") or "how" (alter.py).
    _reply("lie-create", _CREATE, "whatever a test says", status=500),
    _reply("lie-list", _LIST, "whatever a test says", status=500),
    _reply("lie-get", _GET, "whatever a test says", status=500),
    _reply("lie-delete", _DELETE, "whatever a test says", status=500),
    _reply("lie-graphql", _GRAPHQL, "whatever a test says", status=500),
    _reply("lie-catalog", _CATALOG, "whatever a test says", status=500),
)  # fmt: skip
NAMES: Mapping[str, Fault] = {fault.name: fault for fault in TABLE}


@dataclass(slots=True)
class Faults:
    """Which faults are on."""

    root: Path
    now: Callable[[], float] = time.time

    def on(self, name: str, *, times: int | None = None, seconds: float | None = None, **does: Any) -> None:
        """Switch a fault on: for a number of calls, for some seconds, or until it is cleared; ``does`` changes its row."""
        if name not in NAMES:
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

    def met(self, kind: Kind, request: str = "") -> Mapping[str, Any] | None:
        """Return what the first active fault of a kind does to a request, and count it; None when none is on."""
        if not any(self._matches(row, kind, request) for row in self.active()):
            return None
        taken: list[Mapping[str, Any]] = []

        def count(active: list[dict[str, Any]]) -> None:
            for row in active:
                if not taken and self._matches(row, kind, request) and (row["until"] is None or row["until"] > self.now()):
                    taken.append({"name": row["name"], **NAMES[row["name"]].does, **row["does"]})
                    if row["times"] is not None:
                        row["times"] -= 1
            active[:] = [row for row in active if row["times"] is None or row["times"] > 0]

        self._change(count)
        return taken[0] if taken else None

    def _matches(self, row: Mapping[str, Any], kind: Kind, request: str) -> bool:
        fault = NAMES[row["name"]]
        return fault.kind == kind and (not fault.on or re.fullmatch(fault.on, request) is not None)

    def _read(self) -> list[dict[str, Any]]:
        try:
            rows = parse_json((self.root / "faults.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return []
        return rows if isinstance(rows, list) else []

    def _change(self, change: Callable[[list[dict[str, Any]]], None]) -> None:
        with hold_lock(self.root / "faults.lock"):
            rows = self._read()
            change(rows)
            write_atomic(self.root / "faults.json", json.dumps(rows), durable=False)
