"""The newest success of a kind: what `last` means, for the adapter that a training starts from and the data that it has not had."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trainyard.errors import StoreError, UserError
from trainyard.recipes.since import EarlierData
from trainyard.runs.context import CommandContext
from trainyard.runs.records.identity import RunId, all_runs
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.startedfrom import key_of
from trainyard.runs.records.summary import succeeded
from trainyard.runs.verbs.atwork import record_in
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.storage import asked
from trainyard.storage.bucket import listing
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import MODELS, SUCCESS, ResultKey


def last_success(
    context: CommandContext, stack: str, user: str, prefix: str = "", fits: Callable[[RunRecord], bool] = lambda _: True
) -> ResultKey | None:
    """Return a user's newest committed success whose label begins so and whose record fits; None where there is none.

    A stack's bucket tells it, where there is one, else the records that are here. Raises StoreError.
    """
    store = _store(context, stack)
    keys = _here(context, user, prefix) if store is None else _in_bucket(store, user, prefix)
    for key in keys:
        record = _record(context, store, key)
        if record is not None and fits(record):
            return key
    return None


def earlier_data(context: CommandContext, stack: str, run: str) -> EarlierData:
    """Return what an attempt (user/label/attempt) found as its data; raises UserError where nobody knows any more."""
    try:
        key = key_of(run)
    except ValueError:
        raise UserError(f"--since {run}: it is an attempt, user/label/1, or last", hint="See what there is: invoke runs") from None
    record = _record(context, _store(context, stack), key)
    if record is None:
        raise UserError(f"--since {run}: its record is neither here nor in the bucket of stack '{stack}'", hint="Train without --since.")
    return EarlierData(run, record.data.there or record.data.files, context.places.home / "since")


def _store(context: CommandContext, stack: str) -> StoreSettings | None:
    try:
        return bucket_of(context, stack)
    except UserError:
        return None


def _here(context: CommandContext, user: str, prefix: str) -> Iterator[ResultKey]:
    runs = [run for run in all_runs(context.places.runs) if run.user == user and run.label.startswith(prefix)]
    records = [RunFolder(run.folder(context.places.runs)).load() for run in runs]
    for record in sorted(records, key=lambda record: record.ended or 0.0, reverse=True):
        if succeeded(record):
            yield ResultKey(record.user, record.label, record.attempt)


def _in_bucket(store: StoreSettings, user: str, prefix: str) -> Iterator[ResultKey]:
    try:
        markers = [item for item in listing(store, f"{MODELS}{user}/{prefix}") if item.key.endswith(f"/{SUCCESS}")]
    except StoreError as error:
        if error.code != "NoSuchBucket":
            raise
        return  # the first run of its stack makes it
    for item in sorted(markers, key=lambda item: item.modified, reverse=True):
        parts = item.key.split("/")
        if len(parts) == 5:
            yield ResultKey(parts[1], parts[2], int(parts[3]))


def _record(context: CommandContext, store: StoreSettings | None, key: ResultKey) -> RunRecord | None:
    folder = RunFolder(RunId(key.user, key.run, key.attempt).folder(context.places.runs))
    if folder.path.exists():
        return folder.load()
    body = asked.record(store, key) if store is not None else None
    return record_in(body, key) if body is not None else None
