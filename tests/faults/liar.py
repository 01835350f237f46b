"""The lies that an emulated cloud can tell, and an account to tell them of, with a clock that only waiting moves."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.clouds.account import disown, forget_ended, make_spec, offers_of, turned
from trainyard.clouds import open_cloud
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import Cloud, Offer, PodInfo, PodSpec
from trainyard.config import places
from trainyard.rehearsal.emulators import emulator_of
from trainyard.rehearsal.kit import EmulatedCloud, Emulator, PodFields, Timing, start
from trainyard.rehearsal.kit.alter import EACH, WHOLE

Lie = Mapping[str, Any]


def _raw(text: str, status: int = 200) -> Lie:
    return {"status": status, "raw": text}


def replies(fields: PodFields) -> Mapping[str, Lie]:
    """Return answers in the place of the true one; where they look like a listing, like one of this cloud's."""

    def listing(pods: str) -> Lie:
        return _raw(f'{{"{fields.listing}": {pods}}}' if fields.listing else pods)

    other = {fields.id: "another", fields.name: "another", fields.status: "RUNNING"}
    others = [{**other, fields.id: f"other{i}", fields.name: f"other{i}"} for i in range(5000)]
    return {
        **REPLIES,
        "200, cut": _raw(json.dumps({fields.listing: [other]})[:25]),
        "200, pods: []": listing("[]"),
        "200, pods: ''": listing('""'),
        "200, pods: text": listing('"none"'),
        "200, pods: {}": listing("{}"),
        "200, pods: 0": listing("0"),
        "200, pods: [null]": listing("[null]"),
        "200, pods: [{}]": listing("[{}]"),
        "200, pods of somebody": listing(json.dumps([other])),
        "200, huge": listing(json.dumps(others)),
        "200, an error beside it": _raw(json.dumps({fields.listing or "items": [], "error": "upstream timed out"})),
        "200, the pod of somebody": _raw(json.dumps({fields.single: other} if fields.single else other)),
        "200, TERMINATED": _raw(json.dumps({fields.id: "another", fields.status: "TERMINATED"})),
    }


REPLIES: Mapping[str, Lie] = {
    "500": {"status": 500},
    "500 after the deed": {"status": 500, "after": True},
    "502, a page": {"status": 502, "page": True},
    "reset": {"drop": True},
    "reset after the deed": {"drop": True, "after": True},
    "401": {"status": 401, "detail": "invalid bearer token"},
    "402": {"status": 402, "detail": "insufficient balance"},
    "403": {"status": 403, "detail": "access denied"},
    "403, a page": {"status": 403, "page": True},
    "404": {"status": 404, "detail": "pod not found"},
    "404, a page": {"status": 404, "page": True},
    "409": {"status": 409, "detail": "conflict"},
    "410": {"status": 410, "detail": "gone"},
    "429": {"status": 429, "headers": {"Retry-After": "1"}},
    "429, come back in years": {"status": 429, "headers": {"Retry-After": "99999999"}},
    "429, odd digits": {"status": 429, "headers": {"Retry-After": "\u00b2"}},
    "302": {"status": 302, "page": True, "headers": {"Location": "http://127.0.0.1:9/login"}},
    "204": {"status": 204, "raw": ""},
    "200, a page": {"status": 200, "page": True},
    "200, nothing": _raw(""),
    "200, null": _raw("null"),
    "200, {}": _raw("{}"),
    "200, []": _raw("[]"),
    "200, a number": _raw("5"),
    "200, no UTF-8": _raw('{"pods": "\ud800"}'.encode("utf-8", "surrogatepass").decode("latin-1")),
    "200, deep": _raw("[" * 100_000),
    "200, data: null": _raw('{"data": null}'),
    "clock unreadable": {"status": 500, "headers": {"Date": "yesterday"}},
    "clock without zone": {"status": 500, "headers": {"Date": "Sat, 28 Nov 2026 10:00:00 -0000"}},
}
"""Answers that are the same at each cloud."""
STANDARD = ("list", "get", "delete")


def altered(cloud: EmulatedCloud) -> Mapping[str, Lie]:
    """Return true answers with something untrue in them."""
    return {how: {"how": how} for how in (*WHOLE, *EACH, *cloud.changes)}


def calls(cloud: EmulatedCloud) -> tuple[str, ...]:
    """Return what can lie of pods that are there: the standard calls, and whatever else the cloud's own traps name."""
    own = [fault.on for fault in cloud.faults if fault.name.startswith("lie-") and fault.on not in (*STANDARD, "create", "catalog")]
    return (*STANDARD, *own)


TO_CREATE = ("create", "list", "get", "catalog")
LENGTHS: Mapping[str, float] = {"once": 0.0, "for 20 s": 20.0, "for good": math.inf}


@dataclass
class Site:
    """An account with four pods that cost money: ours, ours whose lease is over, a colleague's, a foreign one."""

    emulator: Emulator
    cloud: Cloud
    offers: Sequence[Offer]
    at: list[float] = field(default_factory=lambda: [time.time()])
    until: list[float] = field(default_factory=lambda: [math.inf])
    fence: str = ""
    ours: PodInfo = field(init=False)
    over: PodInfo = field(init=False)
    others: tuple[str, ...] = ()

    def now(self) -> float:
        return self.at[0]

    def sleep(self, seconds: float) -> None:
        """Let time pass; a lie that lasts some seconds ends with them."""
        self.at[0] += seconds
        if self.at[0] >= self.until[0]:
            self.until[0] = math.inf
            self.emulator.faults.off()

    def open(self) -> None:
        """Rent the pods."""
        self.fence = new_id()
        self.ours, self.over = self.rent(self.fence), self.rent(self.fence, hours=-1)
        spec = self.spec(new_id())
        colleague, foreign = self.rent(new_id()), self.cloud.create(spec, self.offer)
        disown(self.emulator, foreign.id, spec)
        self.others = (colleague.id, foreign.id)

    @property
    def offer(self) -> Offer:
        """Something that nobody has rented yet, where an offer is gone with its first pod."""
        return self.offers[min(len(self.alive()), len(self.offers) - 1)]

    def spec(self, fence: str, hours: float = 5) -> PodSpec:
        """Return a spec of a pod of ours whose lease ends in so many hours."""
        end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)
        lease = new_id()
        named = str(PodName(fence, lease, "pod", "0123abcd"))
        return make_spec(self.cloud, name=named, fence_id=fence, lease_id=lease, stop=end - timedelta(minutes=1), end=end)

    def rent(self, fence: str, hours: float = 5) -> PodInfo:
        """Rent a pod of ours."""
        return self.cloud.create(self.spec(fence, hours), self.offer)

    def alive(self) -> set[str]:
        """Return what the ledger says is running."""
        return {record["id"] for record in self.emulator.fleet.all()}

    def clear(self) -> None:
        """End everything and every lie."""
        self.emulator.faults.off()
        self.until[0] = math.inf
        for record in self.emulator.fleet.all():
            self.emulator.fleet.delete(record["id"], "after a case")
        forget_ended(self.emulator)


@contextmanager
def site(cloud: str = "runpod") -> Iterator[Site]:
    """An account whose pods never start, and a client whose waiting costs nothing."""
    played = emulator_of(cloud)
    with tempfile.TemporaryDirectory(prefix="li") as folder:
        limits = {window.name: 10**8 for window in played.limits}
        emulator = start(played, Path(folder), timing=Timing(provisioning=1e9), limits=limits, env={})
        try:
            yield open_site(emulator)
        finally:
            emulator.stop(end_pods=True)


def open_site(emulator: Emulator, offers: Sequence[Offer] = ()) -> Site:
    """Return a client of its own, as each verb is; the cloud lives on its clock."""
    slept = Site(emulator, None, offers)  # type: ignore[arg-type]
    with turned(slept.now, slept.sleep):
        slept.cloud = open_cloud(emulator.cloud.name, emulator.env, places(emulator.root, {}))
    slept.offers = offers or list(offers_of(slept.cloud))
    emulator.fleet.now = slept.now
    return slept
