"""How the runs of gitops stand: those with a record here, and those that only a bucket of this repository's stacks knows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from trainyard.clouds.marker import LONGEST_LEASE
from trainyard.errors import StoreError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records import attempts
from trainyard.runs.records.identity import RunId, all_runs
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import stopped, succeeded, verdict
from trainyard.runs.verbs.atwork import at_work, record_in
from trainyard.runs.verbs.takeup import buckets, stacks_of, take_up
from trainyard.settings import reader
from trainyard.storage import asked, bucket, markers
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import POD_COMMITTED, ResultKey
from trainyard.storage.seal import read_each

Standing = Literal["at work", "over", "claimed"]
"""claimed: a sync that died, or was told to go, took its name and began no training."""
_INTERRUPTED = 130
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class KnownRun:
    """One run of gitops, by its newest attempt."""

    key: ResultKey
    standing: Standing
    says: str
    folder: RunFolder | None = None
    """None: only the bucket knows it."""
    record: RunRecord | None = None
    store: StoreSettings | None = None
    next_attempt: int = 0
    """Of one that is claimed: the attempt by which it goes on."""

    @property
    def run(self) -> str:
        """Its name: user/label."""
        return f"{self.key.user}/{self.key.run}"


def user_of(context: CommandContext, stack: str) -> str:
    """Return whose the runs are that gitops starts on a stack."""
    return reader.partly(context.places.root, stack, "gitops_user").gitops_user


def known_runs(context: CommandContext, desired: Iterable[tuple[str, str]]) -> dict[tuple[str, str], KnownRun]:
    """Return every run of gitops that is asked for or may be at work, by (user, label).

    Raises StoreError where a bucket does not answer: what it knows might be started twice.
    """
    users = _users(context)
    here = _here(context, users)
    known: dict[tuple[str, str], KnownRun] = dict(here)
    asked_for = set(desired)
    for store in buckets(context):
        for user in users:
            for label in _labels(store, user, {name for owner, name in asked_for if owner == user}):
                if (user, label) in here:
                    continue
                one = _in_bucket(context, store, user, label)
                if one is not None:
                    known[user, label] = one
    return known


def _users(context: CommandContext) -> set[str]:
    users: set[str] = set()
    for stack in stacks_of(context):
        with contextlib.suppress(UserError):  # what is wrong with a stack, whoever uses it says
            users.add(user_of(context, stack))
    return users


def _here(context: CommandContext, users: set[str]) -> dict[tuple[str, str], KnownRun]:
    newest: dict[tuple[str, str], RunId] = {}
    for run in all_runs(context.places.runs):
        if run.user in users and run.attempt > newest.get((run.user, run.label), RunId("", "", 0)).attempt:
            newest[run.user, run.label] = run
    return {key: _of_record(run, RunFolder(run.folder(context.places.runs))) for key, run in newest.items()}


def _of_record(run: RunId, folder: RunFolder) -> KnownRun:
    key, record = ResultKey(run.user, run.label, run.attempt), folder.load()
    if not record.reached("ended"):
        return KnownRun(key, "at work", f"here: {record.phase}", folder, record)
    if gave_up(record):
        return KnownRun(key, "claimed", "interrupted before it trained", folder, record, next_attempt=run.attempt + 1)
    return KnownRun(key, "over", _word(record), folder, record)


def gave_up(record: RunRecord) -> bool:
    """Tell whether whoever began an attempt was told to go before a training began: that is nobody's verdict on the run."""
    return record.error_code == _INTERRUPTED and not record.starting and not record.cancelled


def _word(record: RunRecord) -> str:
    return verdict(success=succeeded(record), cancelled=record.cancelled, stopped=stopped(record))


def _labels(store: StoreSettings, user: str, desired: set[str]) -> Iterator[str]:
    """Yield the labels of a user that are asked for, or that a pod may still work on: no lease is longer than the longest."""
    prefix, since = f"{markers.ATTEMPTS}{user}/", time.time() - LONGEST_LEASE.total_seconds() - _DAY
    try:
        seen: Mapping[str, float] = {item.key[len(prefix) :].partition("/")[0]: item.modified for item in bucket.listing(store, prefix)}
    except StoreError as error:
        if error.code != "NoSuchBucket":
            raise
        return  # the first run of its stack makes it
    yield from (label for label, modified in seen.items() if label in desired or modified > since)


def _in_bucket(context: CommandContext, store: StoreSettings, user: str, label: str) -> KnownRun | None:
    numbers = markers.attempts(store, user, label)
    if not numbers:
        return None
    key = ResultKey(user, label, numbers[-1])
    body = asked.record(store, key)
    record = record_in(body) if body is not None else None
    success, kept, alone = (body is not None for body in read_each(store, (key.success, key.kept, key.prefix + POD_COMMITTED)))
    if success or kept or alone:
        says = "succeeded" if success else "kept, no success" if kept else "committed by its pod alone"
        return KnownRun(key, "over", says, None, record, store)
    living = at_work(context, store, key, record)
    if living is not None:
        return KnownRun(key, "at work", f"elsewhere: {living.claim or 'not claimed'}", None, record, store)
    claim = markers.claim_of(store, key)
    if claim is not None and claim.deleted:
        return KnownRun(key, "over", f"its result was deleted on {claim.deleted}", None, record, store)
    if record is not None and not gave_up(record) and (record.ended or record.begun):
        return KnownRun(key, "over", _word(record) if record.ended else "its pod is gone, and left no result", None, record, store)
    ours = claim is not None and claim.token in attempts.tokens_here(context.places.runs, user, label)
    says = "begun by a sync that did not come to the training"
    return KnownRun(key, "claimed", says, None, record, store, next_attempt=key.attempt + (0 if ours else 1))


def folder_of(context: CommandContext, known: KnownRun) -> RunFolder | None:
    """Return the folder by which the story of a run is finished here, None where there is nothing to finish, or nothing to do it with."""
    if known.folder is None:
        if known.standing != "over" or known.store is None:
            return None
        return take_up(context, known.store, known.key, known.record)
    return None if known.record is None or known.record.ended is not None else known.folder
