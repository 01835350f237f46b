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
_SHORT_LOGICAL = 5
"""Characters that a short name has room for of the logical name."""
_SHORT = re.compile(r"^ty-([a-z0-9]+(?:-[a-z0-9]+)*)([0-9a-z]{32})$")
_SHORT_EPOCH = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
_SHORT_PARTS = (40, 40, 32, 30, 22)
"""Bits: fence id, lease id, spec hash, end (seconds of the epoch above), how long before it the stop is (0: there is none) and 1."""
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


def shortened(logical_name: str, most: int) -> str:
    """Return a logical name of at most ``most`` characters (4 or more): its beginning, and three that stand for all of it."""
    if len(logical_name) <= most:
        return logical_name
    number = int(hashlib.sha256(logical_name.encode()).hexdigest(), 16) % 36**3
    return logical_name[: most - 3].strip("-") + _base36(number, 3)


def short_name(name: str, stop: datetime | None, end: datetime | None) -> str:
    """Return a pod's name with its stop and end in 40 characters, for a cloud whose names have no more and tell all there is.

    Raises ValueError for what does not fit: no name of ours, a longer logical name, an end beyond 2053, a stop after the end, or
    more than 48 days before it.
    """
    parts = parse_name(name)
    if parts is None or len(parts.logical_name) > _SHORT_LOGICAL:
        raise ValueError(f"'{name}' has no short form: a logical name may have {_SHORT_LOGICAL} characters")
    ends = 0 if end is None else int(end.timestamp()) - _SHORT_EPOCH
    left = 0 if stop is None or end is None else int(end.timestamp()) - int(stop.timestamp())
    before = left if left < 0 or stop is None or end is None else left + 1
    numbers = (int(parts.fence_id, 16), int(parts.lease_id, 16), int(parts.spec_hash, 16), ends, before)
    whole = 0
    for number, bits in zip(numbers, _SHORT_PARTS, strict=True):
        if not 0 <= number < 1 << bits:
            raise ValueError(f"the times of '{name}' have no short form: {stop}, {end}")
        whole = whole << bits | number
    return f"ty-{parts.logical_name}{_base36(whole, 32)}"


def parse_short_name(text: str) -> tuple[str, datetime | None, datetime | None]:
    """Return the name that a short one stands for, stop and end; a text that is no such name is a name itself."""
    match = _SHORT.match(text.lower())
    whole = int(match[2], 36) if match else -1
    if match is None or not 0 <= whole < 1 << sum(_SHORT_PARTS):
        return text, None, None
    numbers: list[int] = []
    for bits in reversed(_SHORT_PARTS):
        whole, number = divmod(whole, 1 << bits)
        numbers.insert(0, number)
    fence, lease, spec, ends, before = numbers
    end = datetime.fromtimestamp(ends + _SHORT_EPOCH, UTC) if ends else None
    stop = end - timedelta(seconds=before - 1) if end and before else None
    return str(PodName(f"{fence:010x}", f"{lease:010x}", match[1], f"{spec:08x}")), stop, end


def compact_time(moment: datetime | None) -> str:
    """Return a moment, to the second, as six digits and letters; zeros for none."""
    return _base36(0 if moment is None else int(moment.timestamp()), 6)


def parse_compact_time(text: str) -> datetime | None:
    """Return the moment of six such digits, None for none."""
    seconds = int(text, 36)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _base36(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text
