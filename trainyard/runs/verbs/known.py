"""How one run stands, by its newest attempt: told from its record here, else from the bucket that alone knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from trainyard.config import attempt_number
from trainyard.errors import CloudError
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.waiting import Predecessor
from trainyard.runs.records import attempts
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import stopped, succeeded, verdict
from trainyard.runs.verbs.atwork import at_work, record_in
from trainyard.runs.verbs.through import is_due
from trainyard.storage import asked, markers
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import POD_COMMITTED, ResultKey
from trainyard.storage.seal import read_each

Standing = Literal["at work", "over", "claimed"]
"""claimed: who began it died, or was told to go, took its name and began no training."""
Outcome = Literal["open", "succeeded", "broken"]
"""open: not over, to be sealed, brought to its bucket or followed by its next attempt. succeeded: a committed success."""
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class KnownRun:
    """One run by its newest attempt."""

    key: ResultKey
    standing: Standing
    says: str
    folder: RunFolder | None = None
    """None: only the bucket knows it."""
    record: RunRecord | None = None
    store: StoreSettings | None = None
    next_attempt: int = 0
    """Of one that is claimed: the attempt by which it goes on."""
    outcome: Outcome = "open"

    @property
    def run(self) -> str:
        """Its name: user/label."""
        return f"{self.key.user}/{self.key.run}"


def known_here(run: RunId, folder: RunFolder) -> KnownRun:
    """Return how an attempt stands by its record."""
    key, record = ResultKey(run.user, run.label, run.attempt), folder.load()
    if not record.reached("ended"):
        return KnownRun(key, "at work", f"here: {record.phase}", folder, record)
    if gave_up(record):
        return KnownRun(key, "claimed", "interrupted before it trained", folder, record, next_attempt=run.attempt + 1)
    if record.result and record.result.owed:
        return KnownRun(key, "over", "its result came home, and is to be brought to its bucket", folder, record)
    outcome: Outcome = "open" if is_due(record) else "succeeded" if succeeded(record) else "broken"
    return KnownRun(key, "over", _word(record), folder, record, outcome=outcome)


def gave_up(record: RunRecord) -> bool:
    """Tell whether whoever began an attempt was told to go before a training began: that is nobody's verdict on the run."""
    return record.error_code == _INTERRUPTED and not record.starting and not record.cancelled


def had_no_pod(record: RunRecord) -> bool:
    """Tell whether an attempt has ended because its cloud had no pod for it: what it was to do may be asked for again, elsewhere too."""
    return record.error_code == CloudError.exit_code and record.pod.pod_id is None and not record.pods and not record.cancelled


def _word(record: RunRecord) -> str:
    return verdict(success=succeeded(record), cancelled=record.cancelled, stopped=stopped(record))


def known_in_bucket(context: CommandContext, store: StoreSettings, user: str, label: str) -> KnownRun | None:
    """Return how a run stands by what a bucket has of it, None where it has nothing; raises StoreError."""
    numbers = markers.attempts(store, user, label)
    return _known_as(context, store, user, label, numbers) if numbers else None


def _known_as(context: CommandContext, store: StoreSettings, user: str, label: str, numbers: Sequence[int]) -> KnownRun:
    """Return how a run stands by the last of these attempts; one that was given back stands for nothing."""
    key = ResultKey(user, label, numbers[-1])
    body = asked.record(store, key)
    record = record_in(body, key) if body is not None else None
    success, kept, alone = (body is not None for body in read_each(store, (key.success, key.kept, key.prefix + POD_COMMITTED)))
    if success or kept or alone:
        says = "succeeded" if success else "kept, no success" if kept else "committed by its pod alone"
        outcome: Outcome = "succeeded" if success else "broken" if kept else "open"
        return KnownRun(key, "over", says, None, record, store, outcome=outcome)
    living = at_work(context, store, key, record)
    if living is not None:
        return KnownRun(key, "at work", f"elsewhere: {living.claim or 'not claimed'}", None, record, store)
    claim = markers.claim_of(store, key)
    if claim is not None and claim.given_back and len(numbers) > 1:
        return _known_as(context, store, user, label, numbers[:-1])
    if claim is not None and claim.gone and not claim.given_back:
        return KnownRun(key, "over", claim.gone, None, record, store, outcome="broken")
    if record is not None and not gave_up(record) and (record.ended or record.begun):
        says = _word(record) if record.ended else "its pod is gone, and left no result"
        outcome = "open" if record.ended is None or is_due(record) else "broken"
        return KnownRun(key, "over", says, None, record, store, outcome=outcome)
    ours = claim is not None and claim.token in attempts.tokens_here(context.places.runs, user, label)
    says = "begun by a sync that did not come to the training"
    return KnownRun(key, "claimed", says, None, record, store, next_attempt=key.attempt + (0 if ours else 1))


def known_run(context: CommandContext, stores: Iterable[StoreSettings], user: str, label: str) -> KnownRun | None:
    """Return how a run stands by its newest attempt, here or in one of these buckets; None where nobody knows it. Raises StoreError."""
    numbers_here = [number for path in (context.places.runs / user / label).glob("*") if (number := attempt_number(path.name))]
    here = RunId(user, label, max(numbers_here)) if numbers_here else None
    newest = None if here is None else known_here(here, RunFolder(here.folder(context.places.runs)))
    if newest is not None and newest.outcome != "broken":
        return newest
    for store in stores:  # what failed here may have been resumed elsewhere
        numbers = markers.attempts(store, user, label)
        if numbers and (newest is None or numbers[-1] > newest.key.attempt):
            newest = known_in_bucket(context, store, user, label) or newest
    return newest


def predecessor_of(name: str, known: KnownRun | None, missing: str = "not begun") -> Predecessor:
    """Return how a run stands as one that another one waits for; ``missing`` is said of one that is not known: it is waited for."""
    if known is None:
        return Predecessor(name, "pending", missing)
    if known.outcome == "succeeded":
        return Predecessor(name, "succeeded", known.says, f"{known.run}/{known.key.attempt}")
    return Predecessor(name, "pending" if known.outcome == "open" else "broken", known.says, known.run)
