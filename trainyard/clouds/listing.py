"""What a cloud shows: pods by their ids, and a list that is believed: as many answers, apart, as it needs, each of which can be read."""

from __future__ import annotations

import contextlib
import time as clock
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from trainyard.clouds.protocol import Capabilities, Cloud
from trainyard.errors import CloudError, CloudRefused

T = TypeVar("T")
UNREADABLE = 10.0
"""Seconds in which looks (each of them stubborn already) tell nothing before the answer is: unknown."""
_READINGS = 3


def listing_pause(capabilities: Capabilities) -> float:
    """Return the seconds between two listings that must agree."""
    return min(5.0, max(0.5, capabilities.settle / 4))


def there(cloud: Cloud, pod_ids: Iterable[str]) -> frozenset[str]:
    """Return which pods the cloud shows by their ids, neither over nor going; one that it does not tell of is none of them."""
    shown = set()
    for pod_id in pod_ids:
        with contextlib.suppress(CloudError):
            info = cloud.get(pod_id)
            if info is not None and info.status != "terminating" and not cloud.capabilities.over(info):
                shown.add(pod_id)
    return frozenset(shown)


def complete_list(
    cloud: Cloud,
    ask: Callable[[], list[T]],
    key: Callable[[T], Hashable],
    *,
    time: Callable[[], float] = clock.time,
    sleep: Callable[[float], None] = clock.sleep,
) -> list[T]:
    """Return all that as many listings, apart, as this cloud needs have shown together: one alone may be empty, or miss something.

    Raises CloudError when one of them cannot be read, however often within ``UNREADABLE`` seconds.
    """
    listed_items: dict[Hashable, T] = {}
    for look in range(cloud.capabilities.listings):
        if look:
            sleep(listing_pause(cloud.capabilities))
        listed_items |= {key(item): item for item in _readable(cloud, ask, time, sleep)}
    return list(listed_items.values())


def _readable(cloud: Cloud, ask: Callable[[], list[T]], time: Callable[[], float], sleep: Callable[[float], None]) -> list[T]:
    """Return the first answer that can be read; one that cannot may be a passing lie, the cloud's definite no is none."""
    pause, until = listing_pause(cloud.capabilities), time() + UNREADABLE
    for _ in range(_READINGS - 1):
        try:
            return ask()
        except CloudRefused:
            raise
        except CloudError:
            if time() + pause > until:
                raise
        sleep(pause)
    return ask()
