"""The marks by which any machine knows our pods: ids in the name, stop and end in the environment.

A pod's name is ``ty-<fence id>-<lease id>-<logical name>-<8 hex>``; the last part is the sha256 of the inputs
that force a replacement, so a retry of the same spec asks for the same name and another spec for another one.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trainyard.clock import format_time, parse_time

LONGEST_LEASE = timedelta(days=31)
"""A marker whose end cannot be read is ended when the pod is older than this."""
HOST_KEY_MARK = "TRAINYARD_HOST_KEY"
"""The variable that tells a pod's public host key, so that a second machine can pin it, too."""

_ID = r"[0-9a-f]{10}"
_TIMED = re.compile(r"^(ty-.+-[0-9a-f]{8})-([0-9a-z]{6})-([0-9a-z]{6})$")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAME = re.compile(rf"^ty-({_ID})-({_ID})-([a-z0-9]+(?:-[a-z0-9]+)*)-([0-9a-f]{{8}})$")


@dataclass(frozen=True, slots=True)
class PodName:
    """The parts of a pod's name."""

    fence_id: str
    lease_id: str
    logical_name: str
    spec_hash: str

    def __str__(self) -> str:
        return f"ty-{self.fence_id}-{self.lease_id}-{self.logical_name}-{self.spec_hash}"


def new_id() -> str:
    """Return a fresh fence or lease id: 10 hex characters."""
    return secrets.token_hex(5)


def is_id(text: str) -> bool:
    """Tell whether a text has the form of a fence or lease id."""
    return re.fullmatch(_ID, text) is not None


def spec_hash(inputs: Mapping[str, object]) -> str:
    """Return the 8 hex characters that stand for the inputs forcing a replacement (None values do not count)."""
    kept = {key: value for key, value in inputs.items() if value is not None}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def parse_name(name: str) -> PodName | None:
    """Return the parts of a name that is ours, in whichever case a cloud shows it, None for any other."""
    match = _NAME.match(name.lower())
    return PodName(*match.groups()) if match else None


def marker_env(fence_id: str, lease_id: str, stop: datetime | None, end: datetime | None) -> dict[str, str]:
    """Return the variables every create request carries."""
    env = {"TRAINYARD_FENCE_ID": fence_id, "TRAINYARD_LEASE_ID": lease_id}
    if stop is not None:
        env["TRAINYARD_STOP"] = format_time(stop)
    if end is not None:
        env["TRAINYARD_END"] = format_time(end)
    return env


def budget_env(price: float | None, budget: float | None, patience: Mapping[str, float | None]) -> dict[str, str]:
    """Return what a watchdog is told of money and of its patience: dollars an hour, dollars in all, minutes by what they are of."""
    env = {} if price is None else {"TRAINYARD_PRICE": f"{price:.6f}"}
    if budget is not None:
        env["TRAINYARD_BUDGET"] = f"{budget:.2f}"
    return env | {f"TRAINYARD_{name}_MINUTES": f"{minutes:g}" for name, minutes in patience.items() if minutes}


@dataclass(frozen=True, slots=True)
class Label:
    """What a label says that the cloud changes while a pod runs: the pod's name, its stop and its end."""

    name: PodName
    stop: datetime | None
    end: datetime | None

    def __str__(self) -> str:
        moments = ("-" if moment is None else format_time(moment) for moment in (self.stop, self.end))
        return " ".join((str(self.name), *moments))


def parse_label(label: str) -> Label | None:
    """Return what a label of ours says (stop and end are None where they cannot be read), None for any other."""
    first, stop, end = [*label.split()[:3], "", "", ""][:3]
    name = parse_name(first)
    return Label(name, parse_time(stop), parse_time(end)) if name else None


def timed_name(name: str, stop: datetime | None, end: datetime | None) -> str:
    """Return a pod's name with its stop and end, for a cloud where the name is all that a list tells of a pod."""
    return f"{name}-{compact_time(stop)}-{compact_time(end)}"


def parse_timed_name(text: str) -> tuple[str, datetime | None, datetime | None]:
    """Return the name in it, stop and end; a text that is no such name is a name itself."""
    match = _TIMED.match(text.lower())
    if match is None or parse_name(match[1]) is None:
        return text, None, None
    return match[1], parse_compact_time(match[2]), parse_compact_time(match[3])


def compact_time(moment: datetime | None) -> str:
    """Return a moment, to the second, as six digits and letters; zeros for none."""
    left, text = 0 if moment is None else int(moment.timestamp()), ""
    for _ in range(6):
        left, digit = divmod(left, 36)
        text = _DIGITS[digit] + text
    return text


def parse_compact_time(text: str) -> datetime | None:
    """Return the moment of six such digits, None for none."""
    seconds = int(text, 36)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
