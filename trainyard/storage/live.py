"""What a container without SSH writes into the bucket while it runs, and what controllers leave there for it.

logs/<user>/<run>/<attempt>/live/status.json       how it stands; written again every few seconds, by its own URL
logs/<user>/<run>/<attempt>/live/log.00000 ...     its output in parts of fixed names, and metrics.00000 ...
logs/<user>/<run>/<attempt>/live/orders.json       what it is told: to stop, that its lease was moved
logs/<user>/<run>/<attempt>/live/<sha256>.tar.gz   the bundle that it was made of

Status and orders carry a proof (HMAC) that who wrote them knows the run's secret. All of it goes when the run has its result.
What it costs: at most one status, one log part and one metrics part each 5 s, 2,160 PUT an hour, and a GET each 3 s: 1.2 cents an
hour at Amazon's list price.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainyard.errors import StoreError
from trainyard.jsontext import parse_json
from trainyard.pod.signed import mac_of
from trainyard.storage.absent import absence
from trainyard.storage.answers import store_errors
from trainyard.storage.bucket import listing
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.manifest import ResultKey
from trainyard.storage.seal import put_proven, read
from trainyard.storage.signing import signed_url

PART = 256 << 10
PARTS: Mapping[str, int] = {"log": 256, "metrics": 128}
"""Parts that have URLs: 64 MiB of a log and 32 MiB of figures are seen while it runs, all of them in the result."""
STATUS, ORDERS = "status.json", "orders.json"


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """What a container last told of itself. ``time`` is its own clock's, as epoch seconds."""

    phase: str
    """preparing, data, training, ended (what it left is being committed), committed, failed (nothing was started) or lost."""
    why: str
    note: str
    job: str
    """The answer of the program that tells how a job stands (remote/jobs.py)."""
    time: float
    until: float
    """Until when its URLs live."""
    orders: int
    """The number of the newest orders that it has heard."""
    sent: Mapping[str, int]
    whole: Mapping[str, bool]
    """Whether all of a file that has room in its parts is there."""
    watchdog: Mapping[str, object]
    sha256: Mapping[str, str]
    """Of data that nobody had read before, by their names."""
    reports: Mapping[str, str]


def key_of(where: ResultKey, name: str) -> str:
    """Return the key of a live object."""
    return f"{where.logs}live/{name}"


def open_links(settings: StoreSettings, where: ResultKey, seconds: int) -> dict[str, Any]:
    """Return the URLs by which a container of an attempt tells and hears, good for so long, each for one object alone."""
    signer = replace(settings, urls_until=time.time() + seconds)

    def sign(method: str, name: str) -> str:
        return signed_url(signer, method, {"Bucket": settings.bucket, "Key": key_of(where, name)})

    parts = {name: [sign("put_object", _part(name, number)) for number in range(count)] for name, count in PARTS.items()}
    status = {"put": sign("put_object", STATUS), "get": sign("get_object", STATUS)}
    return {**parts, "part": PART, "status": status, "orders": sign("get_object", ORDERS)}


def put_bundle(settings: StoreSettings, where: ResultKey, body: bytes, seconds: int) -> tuple[str, str]:
    """Write a container's bundle; return its sha256, and the URL by which the container reads it."""
    digest = hashlib.sha256(body).hexdigest()
    key = key_of(where, f"{digest}.tar.gz")
    put_proven(settings, key, body)
    signer = replace(settings, urls_until=time.time() + seconds)
    return digest, signed_url(signer, "get_object", {"Bucket": settings.bucket, "Key": key})


def status_of(settings: StoreSettings, where: ResultKey, secret: str) -> LiveStatus | None:
    """Return what the container last told; None where it has told nothing yet. Raises StoreError."""
    said = _proven(read(settings, key_of(where, STATUS)), secret)
    if said is None:
        return None
    try:
        files = said.get("files", {})
        return LiveStatus(
            str(said["phase"]), str(said["why"]), str(said.get("note", "")), str(said.get("job", "absent")), float(said["time"]),
            float(said.get("until") or 0.0), int(said.get("orders") or 0),
            {name: int(one["sent"]) for name, one in files.items()},
            {name: int(one["sent"]) >= min(int(one["size"]), int(one["room"])) for name, one in files.items()},
            dict(said.get("watchdog", {})), dict(said.get("sha256", {})), dict(said.get("reports", {})),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{settings.url}/{key_of(where, STATUS)} cannot be read: {error}") from None


def pieces(settings: StoreSettings, where: ResultKey, name: str, offset: int) -> Iterator[bytes]:
    """Yield what a live file holds from a byte on. Raises StoreError."""
    for number in range(offset // PART, PARTS[name]):
        key, begin = key_of(where, _part(name, number)), max(0, offset - number * PART)
        more = {"Range": f"bytes={begin - 1}-"} if begin else {}  # a byte that is there: a range of none is refused
        body = b""
        with absence(settings, f"read {settings.url}/{key}") as refusal:
            body = s3(settings).get_object(Bucket=settings.bucket, Key=key, **more)["Body"].read()[1 if begin else 0 :]
        if refusal or not body:
            return
        yield body
        if begin + len(body) < PART:
            return


def orders_of(settings: StoreSettings, where: ResultKey, secret: str) -> dict[str, Any]:
    """Return what a container is told now, without its proof; nothing where it was told nothing."""
    return _proven(read(settings, key_of(where, ORDERS)), secret) or {}


def put_orders(settings: StoreSettings, where: ResultKey, secret: str, orders: Mapping[str, Any]) -> int:
    """Tell a container something beside what it was told before; return the number by which it says that it has heard."""
    before = orders_of(settings, where, secret)
    number = int(before.get("number", 0))
    if not before and (status := status_of(settings, where, secret)) is not None:
        number = status.orders  # what it was told is lost: a number that it has heard already says nothing new to it
    said = {**before, **orders, "number": number + 1}
    put_proven(settings, key_of(where, ORDERS), json.dumps({**said, "mac": mac_of(secret, said)}).encode())
    return int(said["number"])


def remove(settings: StoreSettings, where: ResultKey, *, files: bool = True) -> None:
    """Remove what is live of an attempt: its URLs give and take nothing more. ``files``: what its job wrote, too."""
    kept = () if files else tuple(key_of(where, f"{name}.") for name in PARTS)
    for item in [item for item in listing(settings, key_of(where, "")) if not item.key.startswith(kept)]:
        with contextlib.suppress(StoreError), store_errors(f"remove {settings.url}/{item.key}", "404"):
            s3(settings).delete_object(Bucket=settings.bucket, Key=item.key)


def _part(name: str, number: int) -> str:
    return f"{name}.{number:05}"


def _proven(body: bytes | None, secret: str) -> dict[str, Any] | None:
    try:
        said = parse_json(body) if body is not None else None
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    mac = str(said.pop("mac", ""))
    return said if hmac.compare_digest(mac, mac_of(secret, said)) else None
