"""The model cache that a run uses: a network volume of the environment's, made by the first run that needs it."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "trainyard-cache-"
"""How the names of all caches begin."""
CACHE_USED = "cache"
"""Kind of the event that tells which run has used which cache, and for which base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlan:
    """What is to be there when the pod is rented. Sizes are in GB, money is in dollars."""

    name: str
    place: str
    size_gb: float
    base: str
    """What is downloaded to it, and ``base_gb`` how much that is."""
    base_gb: float
    volume: str | None = None
    """The id of the volume; None: it is made first."""
    before_gb: float | None = None
    """The size that it has now."""
    per_month: float | None = None
    """What it costs from then on."""
    by_use: bool = False
    """What lies in it is paid for, not its size."""
    choice: str = ""
    """What being bound to its place costs in choice, in words."""

    def text(self) -> str:
        """Return it as one line of an estimate."""
        grows = self.before_gb is not None and self.size_gb > self.before_gb
        does = f"to be made in {self.place}" if self.volume is None else f"is there in {self.place}"
        size = f"grows from {self.before_gb:g} to {self.size_gb:g} GB" if grows else f"{self.size_gb:g} GB"
        month = self.per_month
        price = "what it costs a month is not known" if month is None else f"${month:.2f} a month (${month * 12 / 365:.2f} a day)"
        billed = " (what lies in it is billed)" if self.by_use else ""
        return f"{self.name} {does}: {size}, {price}{billed}, with or without a pod; {self.choice}"


def name_of(env_id: str, place: str) -> str:
    """Return what the cache of an environment is called in a place."""
    return f"{PREFIX}{env_id}-{place.lower()}"


def environment_of(name: str) -> str | None:
    """Return the environment's id in the name of a cache; None for a volume that is none."""
    return name.removeprefix(PREFIX).partition("-")[0] if name.startswith(PREFIX) else None
