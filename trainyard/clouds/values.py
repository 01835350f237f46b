"""What a cloud's JSON, and the words that reach its adapter, hold: read strictly, one home for all adapters. Makes no request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from trainyard.clock import parse_time
from trainyard.clouds.marker import HOST_KEY_MARK, parse_name
from trainyard.clouds.protocol import PodInfo
from trainyard.errors import CloudRefused, UserError
from trainyard.jsontext import parse_json


def json_object(response: httpx.Response) -> Mapping[str, object] | None:
    """Return the body when it is a JSON object."""
    try:
        body = parse_json(response.content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def mapping(value: object) -> Mapping[str, object]:
    """Return an object's members, none for anything else."""
    return value if isinstance(value, dict) else {}


def fastapi_detail(body: Mapping[str, object]) -> str | None:
    """Return what an error of FastAPI's says: a text, or what is wrong with each part of the request; None for anything else."""
    detail = body.get("detail")
    if isinstance(detail, list) and detail:
        return "; ".join(f"{'.'.join(map(str, _list(mapping(e).get('loc'))))}: {mapping(e).get('msg')}" for e in detail)
    return text(detail)


def text(value: object) -> str | None:
    """Return a text that says something."""
    return value if isinstance(value, str) and value else None


def number(value: object) -> float | None:
    """Return a number that can be reckoned with, None for anything else: JSON as Python reads it has NaN and Infinity, too."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def price_of(value: object) -> float | None:
    """Return dollars an hour; what cannot be a price is not known."""
    dollars = number(value)
    return dollars if dollars is not None and dollars >= 0 else None


def with_marks(info: PodInfo, env: Mapping[str, object]) -> PodInfo:
    """Return a pod with what its name and its variables tell of whose it is and when its lease ends; a foreign one as it is."""
    parsed = parse_name(info.name)
    fence = text(env.get("TRAINYARD_FENCE_ID")) or (parsed.fence_id if parsed else None)
    lease = text(env.get("TRAINYARD_LEASE_ID")) or (parsed.lease_id if parsed else None)
    stop, end = (parse_time(text(env.get(name))) for name in ("TRAINYARD_STOP", "TRAINYARD_END"))
    unreadable = (fence is not None or lease is not None) and end is None
    name, host_key = str(parsed or info.name), text(env.get(HOST_KEY_MARK))
    return replace(info, name=name, fence_id=fence, lease_id=lease, stop=stop, end=end, end_unreadable=unreadable, host_key=host_key)


def path_id(cloud: str, pod_id: str) -> str:
    """Return an id that is safe in a path; raises CloudRefused for what no cloud calls a pod."""
    if not pod_id or not all(c.isalnum() or c in "-_" for c in pod_id):
        # Where the cloud itself names such a pod, the others are ended all the same.
        raise CloudRefused(f"'{pod_id}' is no pod id of {cloud}")
    return pod_id


def seconds_of(env: Mapping[str, str], name: str, default: float) -> float:
    """Return the seconds that a variable says; raises UserError for what are none."""
    try:
        value = float(env.get(name) or default)
    except ValueError:
        raise UserError(f"{name} must be a number of seconds") from None
    if value < 0:
        raise UserError(f"{name} must not be negative")
    return value


def public_half(pem: str) -> str:
    """Return ``ssh-ed25519 AAAA...`` of a private host key."""
    public = load_ssh_private_key(pem.encode(), None).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
