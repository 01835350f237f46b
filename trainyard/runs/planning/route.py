"""Which way a person's files go: over SSH, or through the bucket, where the next run finds them. Loads no client of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.clouds.protocol import Cloud
from trainyard.recipes.code import Code
from trainyard.recipes.data import Data
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunBucket
from trainyard.settings.table import StackSettings
from trainyard.storage.manifest import DATA

LEAST_BYTES = 8_000_000
"""Less than this is sent to the pod over SSH: asking the store would take longer than sending it."""
MANY_FILES = 200
"""As many files go through the bucket however small they are: over SSH each of them is a question of its own."""


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """What of a run lies in the bucket: the sha256 of an index of data, and of one of code."""

    data: str | None = None
    code: str | None = None


def is_big(sizes: Sequence[int]) -> bool:
    """Tell whether files of these sizes go through the bucket, where there is one that their pod can read."""
    return sum(sizes) >= LEAST_BYTES or len(sizes) >= MANY_FILES


def big_data(data: Data) -> bool:
    """Tell whether a run's data are files of this machine that go through the bucket."""
    return data.kind in ("file", "folder") and is_big([file.bytes for file in data.files])


def big_code(code: Code | None) -> bool:
    """Tell whether a person's code goes through the bucket; many small files of it travel well over SSH, packed."""
    return code is not None and code.size >= LEAST_BYTES


def through_bucket(
    context: CommandContext, settings: StackSettings, cloud: Cloud, bucket: RunBucket | None, data: Data, code: Code | None
) -> StoredFiles:
    """Bring what is big into the bucket, unless it is there; nothing else costs a question.

    Raises StoreError when the store fails, UserError when a file has changed since it was looked at.
    """
    takes_data = data.kind in ("file", "folder") if not cloud.capabilities.ssh else big_data(data)  # there is no other way to it
    if bucket is None or not (data.stored or takes_data or big_code(code)):
        return StoredFiles()
    from trainyard.runs.planning import datastore

    if data.stored is not None:
        datastore.keep(context, bucket, data.stored, settings)
    store = datastore.store_for(context, bucket, settings, cloud)
    if store is None:
        return StoredFiles(data.stored)
    of_data = data.stored
    if of_data is None and takes_data:
        of_data = datastore.bring(context, store, "data", datastore.of_data(data.files), settings)
    of_code = datastore.bring(context, store, "code", datastore.of_code(code), settings) if code and big_code(code) else None
    return StoredFiles(of_data, of_code)


def expire_days(settings: StackSettings) -> int | None:
    """Return after how many days the declared rules expire data, None for never."""
    from trainyard.storage.rules import parse_rules

    rules = parse_rules(settings.lifecycle)
    days = [rule.expire_days for rule in rules if rule.expire_days and (DATA.startswith(rule.prefix) or rule.prefix.startswith(DATA))]
    return min(days, default=None)
