"""`invoke gc`: remove from a bucket what its rules say and what no run can use any more; say what goes, and its bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.config import stack_names
from trainyard.errors import RefusedError, StoreError, TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.life.roads import is_owed
from trainyard.runs.records.needs import begun_with
from trainyard.runs.records.record import all_folders
from trainyard.runs.verbs import copies
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.sizes import human_size
from trainyard.storage import bucket
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey
from trainyard.storage.objects import may_list_uploads
from trainyard.storage.sweeper import SweepItem, plan, sweep

_UNSEEN = "open uploads cannot be listed with this key (s3:ListBucketMultipartUploads): what a crash may have left there was not seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """One thing that goes, or would, as ``invoke gc --json`` tells it. ``bytes`` is what it holds."""

    bucket: str
    kind: str
    what: str
    why: str
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What a gc has done, or would do."""

    items: Sequence[SweepRow]
    removed: bool
    problems: Sequence[str]
    unseen: Sequence[str] = ()
    """What could not be looked at."""


def collect(context: CommandContext, stack: str | None, *, dry_run: bool, yes: bool) -> tuple[int, SweepReport]:
    """Sweep one stack's bucket, or those of all stacks; return the exit code (7: something could not be removed) and a report.

    Raises RefusedError when something would go and nobody has agreed.
    """
    stores = [bucket_of(context, stack)] if stack is not None else _buckets(context)
    plans, problems, code = [], [], 0
    for store in stores:
        try:
            plans.append((store, _now(store), plan(store, _now(store), alive(context))))
        except StoreError as error:
            if stack is not None:
                raise
            if error.code == "NoSuchBucket":  # nobody has run anything on its stack yet
                context.ui.say(f"{store.url}: left out: there is no such bucket")
                continue
            context.ui.fail(f"{store.url}: {error}")
            problems.append(f"{store.url}: {error.message}")
            code = error.exit_code
    here, old = str(copies.root_of(context.places)), list(copies.unused(context.places))
    rows = [_row(store, item) for store, _, items in plans for item in items] + [_copy_row(here, copy) for copy in old]
    context.ui.say("\n".join(lines(rows, [*(store.url for store, _, _ in plans), *([here] if old else [])])))
    unseen = [f"{store.url}: {_UNSEEN}" for store, _, _ in plans if not may_list_uploads(store)]
    for line in unseen:
        context.ui.warn(line)
    if dry_run or not rows:
        return code, SweepReport(items=rows, removed=False, problems=problems, unseen=unseen)
    if not yes and not context.ui.agreed(f"Remove these {sum(row.objects for row in rows)} objects for good? [y/N] "):
        raise RefusedError("nothing was removed", hint="Say --yes, or look only: --dry-run")
    for store, now, items in plans:
        problems += sweep(store, items, now)
    for copy in old:
        try:
            copies.remove(copy)
        except OSError as error:
            problems.append(f"{copy.path}: {error.strerror}")
    for problem in problems:
        context.ui.fail(problem)
    return (StoreError.exit_code if problems else code), SweepReport(items=rows, removed=True, problems=problems, unseen=unseen)


def lines(rows: Sequence[SweepRow], urls: Sequence[str]) -> list[str]:
    """Return what goes for a person: what it is on one line, why below it."""
    if not rows:
        return [f"{', '.join(urls) or 'no bucket'}: nothing has to go"]
    text = []
    for url in urls:
        those = [row for row in rows if row.bucket == url]
        if not those:
            continue
        text.append(url)
        for row in those:
            text.append(f"  {row.kind:<12}  {human_size(row.bytes):>9}  {row.objects} object{'s' * (row.objects != 1)}  {row.what}")
            text.append(f"    {row.why}")
        text.append(f"  in all {human_size(sum(row.bytes for row in those))}")
    return text


def _row(store: StoreSettings, item: SweepItem) -> SweepRow:
    return SweepRow(bucket=store.url, kind=item.kind, what=item.what, why=item.why, objects=item.count, bytes=item.bytes)


def _copy_row(place: str, copy: copies.UnusedCopy) -> SweepRow:
    why = f"a copy that was fetched so that its model answers, and not used for {copy.days:.0f} days; the result itself stays"
    return SweepRow(bucket=place, kind="copy", what=copy.name, why=why, objects=copy.files, bytes=copy.bytes)


def _now(store: StoreSettings) -> float:
    """Return the time: this machine's clock where the store's is not behind it. A clock that is ahead would make all things old."""
    return min(time.time(), bucket.store_time(store))


def alive(context: CommandContext) -> set[ResultKey]:
    """Return the attempts that a record of this checkout says are not over or still owes to the bucket, and what those began with."""
    keys = set()
    for folder in all_folders(context.places.runs):
        try:
            record = folder.load()
        except UserError:
            user, label, attempt = folder.path.parts[-3:]
            keys.add(ResultKey(user, label, int(attempt)))  # nobody knows
            continue
        if not record.reached("ended") or is_owed(record):
            keys |= {ResultKey(record.user, record.label, record.attempt), *begun_with(record)}
    return keys


def _buckets(context: CommandContext) -> list[StoreSettings]:
    """Return the buckets of all stacks of this repository, each once; what has none is told."""
    stores: dict[tuple[str | None, str], StoreSettings] = {}
    for name in stack_names(context.places.root):
        try:
            store = bucket_of(context, name)
            stores.setdefault((store.endpoint, store.bucket), store)
        except TrainyardError as error:
            context.ui.say(f"{name}: left out: {error.message}")
    return list(stores.values())
