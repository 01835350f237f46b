"""What a GB costs by the month where results are kept, and to bring it out: the stores' list prices. Loads no client of a store.

In dollars a GB (10^9 bytes), standard class, without taxes, and without what is free for small accounts (R2 and B2: the first 10 GB;
Amazon: the first 100 GB that leave it in a month). Requests are left out: a result is a few hundred of them, under a cent.

Checked on 2026-11-30: Amazon S3 (us-east-1, first tiers) and Cloudflare R2 by vantage.sh's comparison of both, Google Cloud Storage
(us-east1 to the Americas and Europe; other regions up to 0.026) by cloud.google.com/storage/pricing-examples, Backblaze B2 by
backblaze.com's price list as others quote it in 2026, RunPod's network volumes by docs.runpod.io and runpod.io/pricing.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

GB = 1e9


@dataclass(frozen=True, slots=True)
class StorePrice:
    """What a store asks, in dollars."""

    title: str
    month: float
    """A GB that lies there for a month."""
    egress: float
    """A GB that is read from outside."""
    free_egress: float = 0.0
    """So many times what lies there may be read in a month for nothing."""
    whole: bool = False
    """A volume that is paid for by its own size, whatever lies in it: what is put there costs nothing more."""

    def kept(self, size: float) -> float:
        """Return what so many bytes cost a month."""
        return 0.0 if self.whole else size / GB * self.month

    def read(self, size: float, kept: float) -> float:
        """Return what reading so many bytes costs where ``kept`` lie."""
        return max(0.0, size - self.free_egress * kept) / GB * self.egress


LOCAL = StorePrice("the local store", 0.0, 0.0)
RUNPOD = StorePrice("RunPod network volume", 0.07, 0.0, whole=True)
"""0.05 from 1 TB on."""
AMAZON = StorePrice("Amazon S3", 0.023, 0.09)
GOOGLE = StorePrice("Google Cloud Storage", 0.020, 0.12)
_BY_HOST = {
    ".amazonaws.com": AMAZON,
    ".r2.cloudflarestorage.com": StorePrice("Cloudflare R2", 0.015, 0.0),
    ".backblazeb2.com": StorePrice("Backblaze B2", 0.006, 0.01, free_egress=3.0),
    ".storage.googleapis.com": GOOGLE,
    ".runpod.io": RUNPOD,
}
_BY_KIND = {"local": LOCAL, "runpod": RUNPOD}


def price_of(kind: str | None, endpoint: str | None) -> StorePrice | None:
    """Return what a store asks, by its kind and address; None where it is not known, which is not the same as nothing."""
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if not endpoint:
        return AMAZON if kind == "aws" else None
    host = "." + (urlsplit(endpoint).hostname or "")
    return next((price for end, price in _BY_HOST.items() if host.endswith(end)), None)


def name_of(endpoint: str | None) -> str:
    """Return how a store is called whose price is not known."""
    return (urlsplit(endpoint).hostname if endpoint else None) or "its store"
