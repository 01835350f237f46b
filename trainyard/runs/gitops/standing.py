"""How the runs of gitops stand: those with a record here, and those that only a bucket of this repository's stacks knows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping

from trainyard.clouds.marker import LONGEST_LEASE
from trainyard.config import stack_names
from trainyard.errors import StoreError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.identity import RunId, all_runs
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs.known import KnownRun, known_here, known_in_bucket
from trainyard.runs.verbs.takeup import buckets
from trainyard.settings import reader
from trainyard.storage import bucket, markers
from trainyard.storage.client import StoreSettings

_DAY = 86_400.0


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
                one = known_in_bucket(context, store, user, label)
                if one is not None:
                    known[user, label] = one
    return known


def _users(context: CommandContext) -> set[str]:
    users: set[str] = set()
    for stack in stack_names(context.places.root):
        with contextlib.suppress(UserError):  # what is wrong with a stack, whoever uses it says
            users.add(user_of(context, stack))
    return users


def _here(context: CommandContext, users: set[str]) -> dict[tuple[str, str], KnownRun]:
    newest: dict[tuple[str, str], RunId] = {}
    for run in all_runs(context.places.runs):
        if run.user in users and run.attempt > newest.get((run.user, run.label), RunId("", "", 0)).attempt:
            newest[run.user, run.label] = run
    return {key: known_here(run, RunFolder(run.folder(context.places.runs))) for key, run in newest.items()}


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
