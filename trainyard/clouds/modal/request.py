"""What a create asks of Modal, and what a sandbox's tags tell again. Makes no request, and needs no SDK."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from trainyard.clouds.marker import compact_time, marker_env, parse_compact_time
from trainyard.clouds.modal.prices import CORES, MEMORY_GB
from trainyard.clouds.protocol import Offer, PodInfo, PodSpec, PodStatus
from trainyard.clouds.registry import registry_login
from trainyard.clouds.values import price_of
from trainyard.errors import CloudRefused, UserError
from trainyard.pod.endings import ending_env

DEFAULT_IMAGE = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
LONGEST = timedelta(hours=24)
"""Modal keeps no sandbox longer."""
_NAME, _FENCE, _LEASE, _STOP, _END = "ty-name", "ty-fence", "ty-lease", "ty-stop", "ty-end"
_PRICE, _CREATED, _GPU, _COUNT = "ty-price", "ty-created", "ty-gpu", "ty-gpus"
_LONGEST_NAME = 63
_TIME = re.compile(r"[0-9a-z]{6}")


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """What Sandbox.create is given."""

    name: str
    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    secret_env: Mapping[str, str] = field(repr=False)
    login: Mapping[str, str] | None = field(repr=False)
    """Of a private registry, as Modal names its parts."""
    tags: Mapping[str, str]
    timeout: int
    """Seconds after which Modal ends it."""
    gpu: str
    cpu: tuple[float, float]
    memory: int
    """MiB that it asks for."""


def sandbox_request(spec: PodSpec, offer: Offer, now: datetime) -> SandboxRequest:
    """Return what is asked for; raises CloudRefused, with the reason, for what Modal cannot keep."""
    try:
        login = registry_login(spec.registry, "Modal") if spec.registry else None
    except UserError as error:
        raise CloudRefused(error.message, hint=error.hint) from None
    return SandboxRequest(
        name=sandbox_name(spec.name),
        image=spec.image or DEFAULT_IMAGE,
        command=spec.command,
        env={**spec.env, **marker_env(spec.fence_id, spec.lease_id, spec.stop, spec.end), **ending_env(())},
        secret_env=spec.secret_env,
        login={"REGISTRY_USERNAME": login.user, "REGISTRY_PASSWORD": login.token.reveal()} if login else None,
        tags=tags_of(spec, offer, now),
        timeout=lifetime(spec.end, now),
        gpu=f"{offer.id}:{offer.gpu_count}",
        cpu=(CORES * offer.gpu_count, CORES * offer.gpu_count),
        memory=MEMORY_GB * 1024 * offer.gpu_count,
    )


def lifetime(end: datetime | None, now: datetime) -> int:
    """Return the seconds until a lease's end, rounded up; raises CloudRefused where that is longer than a sandbox may live."""
    if end is None:
        return int(LONGEST.total_seconds())
    seconds = math.ceil((end - now).total_seconds())
    if seconds > LONGEST.total_seconds():
        raise CloudRefused("Modal ends every sandbox after 24 hours, and this lease is longer; nothing was created", hint=LONGER)
    return max(1, seconds)


LONGER = "Ask for 'hours: 23' or less, with 'resume: N' for what takes longer."


def sandbox_name(name: str) -> str:
    """Return a pod's name as Modal takes it, unique among the running ones of the App: what is too long loses its logical part."""
    if len(name) <= _LONGEST_NAME:
        return name
    head, _, tail = name.rpartition("-")
    return f"{head[: _LONGEST_NAME - 1 - len(tail)]}-{tail}"


def lease_tags(spec: PodSpec) -> dict[str, str]:
    """Return the tags by which a lease's sandbox is found again."""
    return {_FENCE: spec.fence_id, _LEASE: spec.lease_id, _NAME: spec.name}


def tags_of(spec: PodSpec, offer: Offer, now: datetime) -> dict[str, str]:
    """Return everything that a list has to tell: the SDK itself tells no more of a sandbox than its id."""
    times = {_STOP: compact_time(spec.stop), _END: compact_time(spec.end), _CREATED: compact_time(now)}
    return {**lease_tags(spec), **times, _PRICE: f"{offer.price_per_hour:.4f}", _GPU: offer.gpu or "", _COUNT: str(offer.gpu_count)}


def pod_info(sandbox_id: str, tags: Mapping[str, str], status: PodStatus, raw_status: str) -> PodInfo:
    """Return a sandbox as its tags tell it; one without ours is somebody else's."""
    fence, lease, end = tags.get(_FENCE) or None, tags.get(_LEASE) or None, _time(tags.get(_END))
    try:
        price, count = price_of(float(tags.get(_PRICE, "x"))), int(tags.get(_COUNT, "0"))
    except ValueError:
        price, count = None, 0
    return PodInfo(
        id=sandbox_id, name=tags.get(_NAME, ""), status=status, raw_status=raw_status, price_per_hour=price,
        created=_time(tags.get(_CREATED)), fence_id=fence, lease_id=lease, stop=_time(tags.get(_STOP)), end=end,
        end_unreadable=(fence is not None or lease is not None) and end is None, gpu=tags.get(_GPU) or None, gpu_count=count,
    )  # fmt: skip


def _time(text: str | None) -> datetime | None:
    return parse_compact_time(text) if text and _TIME.fullmatch(text) else None


def utc_now() -> datetime:
    """Return this machine's clock: Modal's answers carry none."""
    return datetime.now(UTC)
