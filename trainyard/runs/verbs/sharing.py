"""Runs of other machines that share a bucket: taken into the ledger before runs are listed, and when the ledger is made anew."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainyard.clock import format_time
from trainyard.config import stack_names
from trainyard.errors import StoreError, TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import all_folders, write_json
from trainyard.runs.records.runrows import take_in
from trainyard.runs.records.summary import cost

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger
    from trainyard.storage.client import StoreSettings

_FRESH = 30.0
"""Seconds for which what was pulled is new enough."""
_PATIENCE = 3.0
"""Seconds for which a list waits for all buckets."""


@dataclass(slots=True)
class PulledBucket:
    """How far a bucket's events are known: up to which name (all, when it is empty), and as of when (epoch seconds; 0: never)."""

    after: str = ""
    as_of: float = 0.0


@dataclass(frozen=True, slots=True)
class RebuiltLedger:
    """What a ledger was made of."""

    events: int
    """Taken in from buckets."""
    records: int
    """Read here."""
    buckets: tuple[str, ...]


def pull_shared(context: CommandContext, ledger: Ledger) -> None:
    """Take in what other machines have told in the buckets of this repository's stacks, for some seconds; say what was not read.

    A bucket that was asked a moment ago is not asked again; the local store knows only this machine.
    """
    if ledger.database.is_postgres:
        return  # it is shared itself
    known = _known(context)
    due = [name for name in _bucket_names(context) if time.time() - known.get(name, PulledBucket()).as_of >= _FRESH]
    if not due:
        return
    until, read = time.monotonic() + _PATIENCE, dict[str, str]()
    thread = threading.Thread(target=_pull_until, args=(context, ledger, until, read), name="pull", daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    now = _known(context)
    for name in due:
        # On a busy machine it may be this process that is late: only an error is the store's.
        if problem := read.get(name, f"{name} was not waited for longer than {_PATIENCE:g} s"):
            when = now.get(name, PulledBucket()).as_of
            context.ui.warn(f"{problem}: runs of other machines are those known {_since(when)}")


def tell_end(context: CommandContext, pod_id: str) -> bool:
    """Write to the run of a pod, where ledger or buckets know one, that a person ends the pod now; tell whether it was written.

    Whoever drives that run elsewhere would take its pod for lost. A store that hangs keeps no pod alive.
    """
    answers = list[bool]()
    thread = threading.Thread(target=lambda: answers.append(_tell_end(context, pod_id)), name="tell end", daemon=True)
    thread.start()
    thread.join(2 * _PATIENCE)
    return any(answers)


def _tell_end(context: CommandContext, pod_id: str) -> bool:
    from trainyard.runs.records.mirror import events_in, push_one
    from trainyard.runs.records.notes import BY_HAND, RENTED

    with contextlib.suppress(OSError, TrainyardError):
        ledger = context.ledger()
        pull_shared(context, ledger)
        run = next((event.run for event in reversed(ledger.events(kind=RENTED)) if event.data.get("pod") == pod_id), None)
        if run is None:
            return False
        ledger.add(run, BY_HAND, pod=pod_id)
        if ledger.database.is_postgres:
            return True
        by_hand = ledger.events(run, kind=BY_HAND)[-1]
        for settings in stores(context):
            with contextlib.suppress(StoreError):
                if any(event.data.get("pod") == pod_id for event in events_in(settings, run)):
                    push_one(settings, by_hand)
                    return True
    return False


def _since(when: float) -> str:
    return f"as of {format_time(when)}" if when else "before (it was never read whole)"


def _pull_until(context: CommandContext, ledger: Ledger, until: float, read: dict[str, str]) -> None:
    """Read one bucket after the other; ``read`` says of each that came to an end what went wrong, '' for nothing."""
    from trainyard.runs.records.mirror import pull

    for settings in stores(context):
        pulled = _known(context).get(settings.url, PulledBucket())

        def on_page(after: str, pulled: PulledBucket = pulled, name: str = settings.url) -> bool:
            pulled.after = after
            if not after:
                pulled.as_of = time.time()
                read[name] = ""
            _remember(context, name, pulled)
            return time.monotonic() < until

        try:
            pull(ledger, settings, pulled.after, on_page)
        except Exception as error:  # the list is shown without it, and says so
            why = error.message if isinstance(error, TrainyardError) else f"{type(error).__name__}: {error}"
            read[settings.url] = f"{settings.url} could not be read ({why})"


def rebuild(context: CommandContext) -> RebuiltLedger:
    """Make the ledger of what buckets and records say, beside what it holds already. Raises StoreError where a bucket does not answer."""
    from trainyard.runs.records.mirror import pull

    ledger, buckets, events = context.ledger(), [], 0
    for settings in stores(context, local=True):
        context.ui.say(f"reading    {settings.url}")
        events += pull(ledger, settings)
        buckets.append(settings.url)
        _remember(context, settings.url, PulledBucket(as_of=time.time()))
    take_in(ledger, context.places.runs)
    records = 0
    for folder in all_folders(context.places.runs):
        try:
            record = folder.load()
        except UserError as error:
            context.ui.warn(error.message)
            continue
        ledger.set_cost(record.id, record.created, cost(record))
        records += 1
    return RebuiltLedger(events, records, tuple(buckets))


def _bucket_names(context: CommandContext) -> list[str]:
    """Return the buckets of this repository's stacks by name, from state and settings alone: no client is loaded for it."""
    from trainyard.leases.environmentid import default_bucket, known_environment_id
    from trainyard.settings import reader
    from trainyard.settings.table import NO_BUCKET
    from trainyard.stacks import facade
    from trainyard.storage.groups import stores_named

    names = []
    for stack in stack_names(context.places.root):
        with contextlib.suppress(OSError, TrainyardError):
            outputs = _names_in(facade.resources(context.stack(stack)))
            settings = reader.partly(context.places.root, stack, "store", "bucket", "env_id")
            kind, bucket = outputs.get("store") or settings.store, outputs.get("bucket") or settings.bucket
            if bucket is None and (env_id := settings.env_id or known_environment_id(context.places, stack)):
                bucket = default_bucket(env_id)
            if kind is None and reader.cloud_of(context.places.root, stack) == "local":
                kind = "local"
            has_keys = kind in ("aws", "s3") or stores_named(context.env)  # those two have other ways to keys than variables
            if bucket and bucket != NO_BUCKET and kind != "local" and has_keys:
                names.append(f"s3://{bucket}")
    return sorted(set(names))


def _names_in(resources: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what a state says of the bucket; the stack's secrets beside it stay as they are, for their key takes 0.4 s to derive."""
    outputs = next((one.get("outputs") for one in resources if one.get("type") == "pulumi:pulumi:Stack"), None) or {}
    return {name: value for name in ("store", "bucket") if isinstance(value := outputs.get(name), str)}


def stores(context: CommandContext, *, local: bool = False) -> Iterator[StoreSettings]:
    """Yield each bucket of this repository's stacks that this machine has the keys of."""
    from trainyard.runs.verbs.fetch import bucket_of

    seen, names = set(), _bucket_names(context)
    for stack in stack_names(context.places.root):
        with contextlib.suppress(UserError):
            if local or names:
                settings = bucket_of(context, stack)
                if settings.url not in seen and (local or (settings.url in names and settings.kind != "local")):
                    seen.add(settings.url)
                    yield settings


def _known(context: CommandContext) -> dict[str, PulledBucket]:
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        document = parse_json((context.places.home / "pulled.json").read_text())
        return {str(name): PulledBucket(str(value["after"]), float(value["as_of"])) for name, value in document.items()}
    return {}


def _remember(context: CommandContext, name: str, pulled: PulledBucket) -> None:
    known = {**_known(context), name: pulled}
    with contextlib.suppress(OSError):
        write_json(context.places.home / "pulled.json", {key: {"after": one.after, "as_of": one.as_of} for key, one in known.items()})
