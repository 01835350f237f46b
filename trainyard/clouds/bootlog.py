"""Why a pod does not boot, read from the cloud's own log and the container's. Makes no request."""

from __future__ import annotations

import re
from collections.abc import Sequence

RESTARTS = 4
"""Starts of one container from which on it is a loop: a healthy one starts once."""

_PULL = re.compile(
    r"(error|failed).{0,40}pull|manifest (unknown|.*not found)|pull access denied|toomanyrequests|no matching manifest|"
    r"(unauthorized|denied): .*(registry|repository|requested access)|no basic auth credentials|invalid reference format",
    re.IGNORECASE,
)
_SPACE = re.compile(r"no space left on device", re.IGNORECASE)
_PLATFORM = re.compile(r"exec format error|does not match the (detected|specified) .*platform", re.IGNORECASE)
_CREATE = re.compile(r"OCI runtime create failed", re.IGNORECASE)
_START = re.compile(r"\bstart(ing|ed)? container\b", re.IGNORECASE)


def boot_problem(system: Sequence[str], container: Sequence[str]) -> str | None:
    """Return the boot failure in words, None when the logs show none."""
    if line := _first(_PLATFORM, [*container, *system]):
        return f"the image is built for another processor ({line}); build it for linux/amd64"
    if line := _first(_PULL, system):
        return f"the image cannot be pulled ({line}); check its name and, if it is private, the registry credential"
    if line := _first(_SPACE, system):
        return f"the image does not fit on the machine's disk ({line})"
    if line := _first(_CREATE, system):
        return f"the container cannot be made ({line})"
    starts = sum(1 for line in system if _START.search(line))
    if starts >= RESTARTS:
        last = next((line for line in reversed(container) if line.strip()), "it printed nothing")
        return f"the container starts again and again ({starts} times; its last line: {last})"
    return None


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> str | None:
    return next((line.strip()[:160] for line in lines if pattern.search(line)), None)
