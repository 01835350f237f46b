"""What is known of a run's attempts, from the records here and from its bucket: which one is meant, and whether it is over."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from trainyard.clock import parse_time
from trainyard.config import attempt_number
from trainyard.errors import RefusedError, TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.life import alone
from trainyard.runs.records import attempts
from trainyard.runs.records.identity import LONGEST_NAME, RunId, all_runs, find, shown
from trainyard.runs.records.pods import note_bill, note_gone
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.verbs.atwork import at_work, record_in
from trainyard.runs.verbs.fetch import bucket_of, meant
from trainyard.settings import reader
from trainyard.settings.user import user_name
from trainyard.storage import asked, markers
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import POD_COMMITTED, ResultKey, is_name
from trainyard.storage.seal import read, read_result

_ROOTS = ("models", "checkpoints", "logs", "attempts")


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt as its record tells it; ``folder`` is None where only the bucket knows it."""

    record: RunRecord
    folder: RunFolder | None

    @property
    def key(self) -> ResultKey:
        """Its place in the bucket."""
        return ResultKey(self.record.user, self.record.label, self.record.attempt)


@dataclass(frozen=True, slots=True)
class RunHistory:
    """The attempts of a run's name up to the one that is meant, oldest first."""

    user: str
    label: str
    attempts: tuple[PastAttempt, ...]
    store: StoreSettings | None
    """Its bucket; None for a run whose results came home over SSH."""
    last: int | None
    """The newest attempt that its bucket knows, also of those that are not meant; None where it cannot be listed."""

    @property
    def newest(self) -> PastAttempt:
        """The attempt that is meant."""
        return self.attempts[-1]

    def of(self, attempt: int) -> PastAttempt | None:
        """Return an attempt by its number."""
        return next((one for one in self.attempts if one.record.attempt == attempt), None)


def history_of(context: CommandContext, reference: str, stack: str | None) -> RunHistory:
    """Return the attempts of the run that a person means: a label, user/label, user/label/attempt, or a key of its bucket.

    ``stack`` is the one whose bucket is asked where no record is here. Raises UserError for a run that is nowhere, RefusedError
    (3) where an attempt of its name may still be alive.
    """
    user, label, number = run_words(meant(context, reference, stack))
    here = _known_here(context, user, label)
    user = user or (here[-1].record.user if here else user_name(context.env, own_user(context, stack)))
    store = store_of(context, here[-1].record.bucket) if here else _asked_bucket(context, reference, stack)
    known, last = {one.record.attempt: one for one in here}, None
    if here:
        attempts.refuse_live(context.places.runs, user, label)
    if store is not None:
        keys = [ResultKey(user, label, attempt) for attempt in markers.attempts(store, user, label)]
        last = max((key.attempt for key in keys), default=None)
        alone.seal_all(context, store, [key for key in keys if read(store, key.prefix + POD_COMMITTED) is not None])
        for attempt, body in asked.records(store, user, label).items():
            if attempt not in known and (record := record_in(body, ResultKey(user, label, attempt))) is not None:
                _note_lone_end(context, store, record)
                known[attempt] = PastAttempt(record, None)
        _refuse_alive(context, store, keys, known)
    past = [known[attempt] for attempt in sorted(known) if number is None or attempt <= number]
    if not past or (number is not None and past[-1].record.attempt != number):
        raise context.unknown(reference, _unknown(store, reference, ResultKey(user, label, number or last or 1), stack or "local"))
    return RunHistory(user, label, tuple(past), store, last)


def _asked_bucket(context: CommandContext, reference: str, stack: str | None) -> StoreSettings:
    try:
        return bucket_of(context, stack or "local")
    except UserError as error:
        raise context.unknown(reference, error) from None


def _unknown(store: StoreSettings | None, reference: str, key: ResultKey, stack: str) -> UserError:
    """Return why an attempt has no record: it was deleted, or nobody knows it."""
    hint = f"See what there is: invoke runs; in the bucket: invoke results --stack {stack}"
    claim = markers.claim_of(store, key) if store is not None else None
    if store is not None and claim is not None and claim.gone:
        return UserError(f"nothing of attempt {key.attempt} of {key.user}/{key.run} is left in {store.url}: {claim.gone}", hint=hint)
    return UserError(f"what '{reference}' ran is known neither here nor in {store.url if store is not None else 'a bucket'}", hint=hint)


def run_words(reference: str) -> tuple[str, str, int | None]:
    """Return user ('' for none), label and attempt that a label, user/label, user/label/attempt or a key of a bucket names.

    Raises UserError for what names no run.
    """
    text = reference.strip()
    if text.startswith("s3://"):
        text = text[len("s3://") :].partition("/")[2]
    parts = [part for part in text.split("/") if part]
    if len(parts) > 2 and parts[0] in _ROOTS:
        parts = parts[1:4]
    number = attempt_number(parts[2]) if len(parts) == 3 else None
    if number is not None:
        parts.pop()
    if not 1 <= len(parts) <= 2 or not all(is_name(part) and len(part) <= LONGEST_NAME for part in parts):
        raise UserError(f"{shown(reference)} names no run", hint="It is a label, user/label, user/label/attempt, or a key of the bucket.")
    return (parts[0] if len(parts) == 2 else ""), parts[-1], number


def _known_here(context: CommandContext, user: str, label: str) -> list[PastAttempt]:
    runs = context.places.runs
    try:
        newest = find(runs, f"{user}/{label}" if user else label)
    except UserError:
        if len({run.user for run in all_runs(runs) if run.label == label}) > 1 and not user:
            raise  # several users' runs: say which
        return []
    folders = [path for path in (runs / newest.user / newest.label).glob("*/") if attempt_number(path.name)]
    return [PastAttempt(RunFolder(path).load(), RunFolder(path)) for path in sorted(folders, key=lambda path: int(path.name))]


def own_user(context: CommandContext, stack: str | None) -> str | None:
    """Return the user that a stack's settings name."""
    return reader.partly(context.places.root, stack or "local", "user").user


def _note_lone_end(context: CommandContext, store: StoreSettings, record: RunRecord) -> None:
    """Note when the pod of an attempt ended itself after it had committed alone: nobody who followed it has written that down."""
    if record.ended is None:
        result = read_result(store, ResultKey(record.user, record.label, record.attempt))
        note_gone(record, parse_time(result.pod_time) if result else None)
        with contextlib.suppress(TrainyardError):  # without the cloud's key, or a bill, the pod's own word counts
            note_bill(record, lambda pod_id: context.cloud_of(record).billed(pod_id))


def _refuse_alive(context: CommandContext, store: StoreSettings, keys: list[ResultKey], known: dict[int, PastAttempt]) -> None:
    """Raise RefusedError where an attempt that only the bucket knows may still be at work."""
    for key in reversed(keys):
        past = known.get(key.attempt)
        if past is not None and (past.folder is not None or past.record.ended):
            continue
        if (living := at_work(context, store, key, past.record if past else None)) is not None:
            raise RefusedError(str(living), hint=living.ways("attach"))


def home_of(context: CommandContext, record: RunRecord) -> Path:
    """Return where an attempt's files lie at home."""
    return RunId(record.user, record.label, record.attempt).home(context.places.root / "out")
