"""What the runs of this repository that are not over still need of a bucket: data, code, and what their trainings began with."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from trainyard.errors import StoreError
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.startedfrom import key_of
from trainyard.storage.client import StoreSettings
from trainyard.storage.datasend import index_of
from trainyard.storage.manifest import DATA, ResultKey


def needed_of(record: RunRecord, store: StoreSettings, keys: Collection[str]) -> str | None:
    """Return one of some keys of a bucket that a run which is not over needs, None when it needs none; raises StoreError in trouble."""
    if record.reached("ended") or (record.bucket is not None and record.bucket.bucket != store.bucket):
        return None
    files = record.data.files
    exact = {file.src.removeprefix(f"{store.url}/") for file in files} | {DATA + file.sha256 for file in files if file.sha256}
    begun = tuple(start.prefix for start in (record.resumed_from, record.init_from) if start is not None and start.prefix)
    if any(key.startswith(DATA) for key in keys):
        exact |= set(_stored(record, store))
    return next((key for key in sorted(keys) if key in exact or key.startswith(begun)), None)


def begun_with(record: RunRecord) -> Iterator[ResultKey]:
    """Name the attempts with whose checkpoint or adapter a training began."""
    yield from (key_of(start.run) for start in (record.resumed_from, record.init_from) if start is not None)


def _stored(record: RunRecord, store: StoreSettings) -> Iterator[str]:
    """Name indexes of data and code and the chunks that they name: other data sets may share them."""
    for digest in (record.data.stored, record.data.in_bucket, record.code.stored if record.code else None):
        if not digest:
            continue
        yield DATA + digest
        try:
            yield from (chunk.key for chunk in index_of(store, digest).chunks)
        except StoreError as error:
            if error.passing:
                raise
