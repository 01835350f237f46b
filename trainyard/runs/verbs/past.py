"""One attempt to be looked at or run again: from its folder here, else from its bucket, as far as that knows it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard.config import stack_names
from trainyard.errors import UserError
from trainyard.recipes.bundle import SHA256_LIST
from trainyard.runs.context import CommandContext
from trainyard.runs.records.identity import all_runs, find, shown
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.verbs.atwork import record_in
from trainyard.runs.verbs.fetch import bucket_of, meant
from trainyard.runs.verbs.history import own_user, run_words
from trainyard.settings.user import user_name
from trainyard.storage import asked
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey
from trainyard.storage.seal import read


@dataclass(frozen=True, slots=True)
class SeenAttempt:
    """An attempt and its files; where only its bucket knows it, they are copies that go with the command."""

    record: RunRecord
    folder: RunFolder
    store: StoreSettings | None
    """The bucket that it was read from; None for one that has its folder here."""

    @property
    def here(self) -> bool:
        """Tell whether this checkout has its record."""
        return self.store is None

    @contextmanager
    def bundle(self, context: CommandContext) -> Iterator[Path]:
        """Yield what it was given; raises UserError or StoreError where that is nowhere."""
        hint = "Its scripts and code are nowhere any more; its record, and its result where it has one, are not touched by that."
        with bundle_of(self.record, self.folder, lambda: self.store or store_of(context, self.record.bucket), hint) as folder:
            yield folder

    @property
    def key(self) -> ResultKey:
        """Its place in a bucket."""
        return ResultKey(self.record.user, self.record.label, self.record.attempt)


@contextmanager
def seen(context: CommandContext, reference: str, stack: str | None) -> Iterator[SeenAttempt]:
    """Yield the attempt that a person means, the newest one where no number is named; nothing is asked of a run that is here.

    ``stack`` is the one whose bucket is asked for a run that is not. Raises UserError for one that is nowhere.
    """
    user, label, number = run_words(meant(context, reference, stack))
    runs = context.places.runs
    if any(run.label == label and user in ("", run.user) and number in (None, run.attempt) for run in all_runs(runs)):
        folder = RunFolder(find(runs, "/".join([*([user] if user else []), label, *([str(number)] if number else [])])).folder(runs))
        yield SeenAttempt(folder.load(), folder, None)
        return
    try:
        store = _bucket(context, stack or "local", reference)
        record = _record_of(store, user or user_name(context.env, own_user(context, stack)), label, number, reference, stack)
    except UserError as error:
        raise context.unknown(reference, error) from None
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        attempt = SeenAttempt(record, RunFolder(Path(scratch).resolve()), store)
        metrics = read(store, attempt.key.logs + attempt.folder.metrics.name)
        if metrics is not None:
            attempt.folder.metrics.write_bytes(metrics)
        attempt.folder.snapshot.mkdir()
        asked.fetch_snapshot(store, attempt.key, attempt.folder.snapshot)
        yield attempt


@contextmanager
def all_seen(context: CommandContext, references: list[str], stack: str | None) -> Iterator[list[SeenAttempt]]:
    """Yield several attempts; raises UserError for the first that is nowhere."""
    with ExitStack() as opened:
        yield [opened.enter_context(seen(context, reference, stack)) for reference in references]


@contextmanager
def bundle_of(record: RunRecord, folder: RunFolder | None, bucket: Callable[[], StoreSettings | None], hint: str) -> Iterator[Path]:
    """Yield what an attempt was given: from its folder, else from its bucket, proven by its hash; raises UserError with ``hint``.

    ``bucket`` is called only where the folder has it not: a store may have to be started, or not answer.
    """
    if folder is not None and asked.is_bundle(folder.bundle, SHA256_LIST, record.bundle_sha256):
        yield folder.bundle
        return
    store = bucket()
    if store is None:
        raise UserError(f"the bundle of {record.id} is gone or damaged, and it has no bucket that holds another", hint=hint)
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        copy = Path(scratch).resolve() / "bundle"
        copy.mkdir()
        key = ResultKey(record.user, record.label, record.attempt)
        asked.fetch_bundle(store, key, copy, SHA256_LIST, record.bundle_sha256)
        yield copy


def _bucket(context: CommandContext, stack: str, reference: str) -> StoreSettings:
    try:
        return bucket_of(context, stack)
    except UserError as error:
        hint = f"{error.hint}\n" if error.hint else ""
        others = ", ".join(name for name in stack_names(context.places.root) if name != stack)
        ask = f"; another stack's bucket is asked with --stack and its name ({others})" if others else ""
        raise UserError(
            f"there is no run {shown(reference)} here, and no bucket of stack '{stack}' can be asked: {error.message}",
            hint=f"{hint}Runs that are known here: invoke runs{ask}",
        ) from None


def _record_of(store: StoreSettings, user: str, label: str, number: int | None, reference: str, stack: str | None) -> RunRecord:
    known = asked.records(store, user, label)
    attempt = max(known, default=None) if number is None else number
    if attempt is None or attempt not in known:
        raise UserError(
            f"what '{reference}' ran is known neither here nor in {store.url}",
            hint=f"See what there is: invoke runs; in the bucket: invoke results --stack {stack or 'local'}",
        )
    record = record_in(known[attempt], ResultKey(user, label, attempt))
    if record is None:
        raise UserError(
            f"the record of {user}/{label}/{attempt} in {store.url} is one of another version, or damaged",
            hint=f"Its files can be seen all the same: invoke results.show {user}/{label}/{attempt} --stack {stack or 'local'}",
        )
    return record
