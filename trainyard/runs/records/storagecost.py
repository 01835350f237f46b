"""What a run's result and data cost where they are kept, by the month, and once when they are read: beside what the run costs."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.runs.records.parts import RunBucket
from trainyard.sizes import human_size
from trainyard.storage.prices import StorePrice, name_of, price_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageCost:
    """Bytes, and dollars for them; None: not known, which is never nothing. No part of a run's cost, and of no limit."""

    store: str
    """The store, by its product's name or its host."""
    price_known: bool
    volume: str | None = None
    """The network volume that is the bucket: it is paid for by its own size, with or without what lies there."""
    volume_gb: float | None = None
    volume_month: float | None = None
    gb_month: float | None = None
    """A GB by the month."""
    gb_home: float | None = None
    """A GB that is brought home."""
    result_bytes: int | None = None
    like_runs: int = 0
    """How many like runs tell the result's size; 0: it is the run's own, or nobody tells."""
    result_month: float | None = None
    result_home: float | None = None
    """Bringing it home once."""
    data_bytes: int = 0
    """Data and code that the run keeps in the bucket."""
    data_month: float | None = None
    data_read: float | None = None
    """Each pod reads them once."""

    @property
    def is_free(self) -> bool:
        """Tell whether nothing of it costs anything: this machine's own store."""
        return self.price_known and self.volume is None and not self.gb_month and not self.gb_home

    def text(self) -> str:
        """Return it as one line for a person; '' for what costs nothing."""
        if self.is_free:
            return ""
        if self.volume is not None:
            return self._volume()
        where = f"{self.store}, list price" if self.price_known else f"{self.store}, whose prices are not known here"
        return f"{where}: {'; '.join(filter(None, (self._result(), self._data())))}"

    def _volume(self) -> str:
        by_size = f"{dollars(self.gb_month or 0.0)} a GB of its size and month at most"
        month = by_size if self.volume_month is None else f"{dollars(self.volume_month)} a month"
        size = "" if self.volume_gb is None else f" of {self.volume_gb:g} GB"
        return f"in network volume {self.volume}{size}: {month}, whatever lies there; what is read from it costs nothing"

    def _result(self) -> str:
        if self.result_bytes is None:
            rates = f": ${self.gb_month:g} a GB and month" if self.gb_month is not None else ""
            home = f", ${self.gb_home:g} a GB brought home" if self.gb_home else ""
            return f"no like run tells the size of the result{rates}{home}"
        likes = "1 like run tells" if self.like_runs == 1 else f"{self.like_runs} like runs tell"
        size = f"about {human_size(self.result_bytes)}, as {likes}" if self.like_runs else human_size(self.result_bytes)
        month = "" if self.result_month is None else f", {dollars(self.result_month)} a month"
        home = "" if self.result_home is None else f", brought home once {dollars(self.result_home)}"
        return f"the result of {size}{month}{home}"

    def _data(self) -> str:
        if not self.data_bytes:
            return ""
        month = "" if self.data_month is None else f" {dollars(self.data_month)} a month"
        read = "" if self.data_read is None else f", read by each pod for {dollars(self.data_read)}"
        return f"{human_size(self.data_bytes)} of data and code kept there{month}{read}"


def storage_cost(
    bucket: RunBucket, result_bytes: int | None, *, like_runs: int = 0, data_bytes: int = 0,
    volume: tuple[float | None, float | None] = (None, None),
) -> StorageCost:  # fmt: skip
    """Return what lies in a bucket costs; ``volume``: GB and dollars a month of the network volume that it is, as its cloud tells them."""
    price = price_of(bucket.store, bucket.endpoint)
    if price is None:
        return StorageCost(
            store=name_of(bucket.endpoint), price_known=False, result_bytes=result_bytes, like_runs=like_runs, data_bytes=data_bytes
        )
    kept = (result_bytes or 0) + data_bytes
    return StorageCost(
        store=price.title, price_known=True, volume=bucket.bucket if price.whole else None, volume_gb=volume[0], volume_month=volume[1],
        gb_month=price.month, gb_home=price.egress, result_bytes=result_bytes, like_runs=like_runs,
        result_month=None if result_bytes is None else price.kept(result_bytes),
        result_home=None if result_bytes is None else price.read(result_bytes, kept),
        data_bytes=data_bytes, data_month=price.kept(data_bytes), data_read=_read(price, data_bytes, kept),
    )  # fmt: skip


def _read(price: StorePrice, size: int, kept: int) -> float | None:
    return price.read(size, kept)


def dollars(amount: float) -> str:
    """Return an amount as people read it: what is something is never $0.00."""
    return f"${amount:,.2f}" if amount == 0 or amount >= 0.01 else "under $0.01"
