"""The ledger's events in the bucket of their run, and those of other machines in the ledger.

What is pushed is best effort and in the background: no run waits for it, and what did not get there goes with the next.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from trainyard.errors import TrainyardError
from trainyard.jsontext import parse_json
from trainyard.ledger.rows import LedgerEvent, RunRow
from trainyard.ledger.runid import RunId
from trainyard.pod.files import printable
from trainyard.runs.context import CommandContext
from trainyard.runs.records import codec
from trainyard.runs.records.acts import anchor
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger
    from trainyard.storage.client import StoreSettings
    from trainyard.storage.eventlog import EventKey

_EVERY = 15.0
"""Seconds from one push to the next."""
_PATIENCE = 3.0
"""Seconds that a command's end waits for the last push."""
_MONTH = 30 * 86_400.0
"""Seconds after which an event is not pushed any more."""
_SKEW = 86_400.0
"""Seconds that another machine's clock may be ahead: what is further ahead could never be corrected."""
_MOST = {"hours": 1e5, "cost": 1e7, "estimate": 1e7, "eta": 1e9, "steps_done": 2**31 - 1, "steps_planned": 2**31 - 1}
"""Bounds of a row's figures; all begin at 0, as less than nothing would lift spending limits."""
_TIMES = ("created", "started", "ended", "changed")
_LONGEST_TEXT = 10_000
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class MirroredEvent:
    """An event as its object in the bucket holds it; ``run`` is how its run stood when it was pushed."""

    id: str
    time: float
    kind: str
    data: dict[str, Any]
    machine: str
    run: RunRow | None = None


@contextmanager
def beside(context: CommandContext, record: RunRecord) -> Iterator[None]:
    """Push events in the background while the block runs, and what is left at its end, for some seconds at most."""
    if record.bucket is None:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_push_until, args=(context, record, done), name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(_PATIENCE)


def _push_until(context: CommandContext, record: RunRecord, done: threading.Event) -> None:
    over = False
    while not over:
        over = done.wait(_EVERY)
        with contextlib.suppress(Exception):  # whatever it is, the run is not told of it: the next push tries again
            push(context, record)
            if over:
                _anchor(context, record)


def _anchor(context: CommandContext, record: RunRecord) -> None:
    settings = store_of(context, record.bucket)
    if settings is not None:
        anchor(context.ledger(), settings)


def push(context: CommandContext, record: RunRecord) -> int:
    """Write events of this machine that the bucket of a run does not have yet, and of others in the same store; return how many.

    Raises StoreError where the store refuses, and what the ledger raises.
    """
    from trainyard.storage.eventlog import TOGETHER, put

    ledger = context.ledger()
    pending: dict[RunId, list[LedgerEvent]] = {}
    for event in ledger.pending(socket.gethostname(), time.time() - _MONTH):
        pending.setdefault(event.run, []).append(event)
    rows = {row.id: row for row in ledger.rows_of(list(pending))}
    pushed = 0
    for run, events in pending.items():
        of_run = record if run == record.id else _record(context, run)
        if of_run is None or (of_run.bucket and record.bucket and of_run.bucket.store != record.bucket.store):
            continue  # another checkout's, or a store that this command does not talk to
        settings = store_of(context, of_run.bucket)
        if settings is not None:
            documents = [(_key(event), _body(event, rows.get(run) if event is events[-1] else None)) for event in events]
            with ThreadPoolExecutor(TOGETHER) as pool:
                list(pool.map(lambda pair, at=settings: put(at, *pair), documents))
            pushed += len(documents)
        if settings is not None or of_run.bucket is None:
            ledger.set_mirrored([event.id for event in events])
    return pushed


def push_one(settings: StoreSettings, event: LedgerEvent) -> None:
    """Write one event into a bucket; raises StoreError."""
    from trainyard.storage.eventlog import put

    put(settings, _key(event), _body(event, None))


def pull(ledger: Ledger, settings: StoreSettings, after: str = "", on_page: Callable[[str], bool] | None = None) -> int:
    """Take into the ledger the events of a bucket that it does not know, from a name on; return how many.

    ``on_page`` is told after each piece where the next one begins ('' at the end), and says whether to go on. Raises StoreError.
    """
    from trainyard.storage.eventlog import bodies, page

    new = 0
    while True:
        listed = page(settings, after)
        known = {_key(event) for event in ledger.events_of(sorted({RunId(key.user, key.run, key.attempt) for key in listed.keys}))}
        events, rows = _read(bodies(settings, [key for key in listed.keys if key not in known]))
        ledger.fold(events, rows)
        new, after = new + len(events), listed.after or ""
        if (on_page is not None and not on_page(after)) or not after:
            return new


def events_in(settings: StoreSettings, run: RunId) -> list[LedgerEvent]:
    """Return what a bucket tells of an attempt, in order, a thousand events at most; raises StoreError."""
    from trainyard.storage.eventlog import bodies, page

    listed = page(settings, below=f"{run.user}/{run.label}/{run.attempt}/")
    return sorted(_read(bodies(settings, listed.keys))[0], key=lambda event: event.time)


def _record(context: CommandContext, run: RunId) -> RunRecord | None:
    with contextlib.suppress(OSError, TrainyardError):
        return RunFolder(run.folder(context.places.runs)).load()
    return None


def _key(event: LedgerEvent) -> EventKey:
    from trainyard.storage.eventlog import EventKey

    return EventKey(event.run.user, event.run.label, event.run.attempt, int(event.time * 1000), event.id[:8])


def _body(event: LedgerEvent, row: RunRow | None) -> bytes:
    document = MirroredEvent(event.id, event.time, event.kind, event.data, event.machine, row)
    return json.dumps(asdict(document), default=str).encode()


def _read(documents: Sequence[tuple[EventKey, bytes]]) -> tuple[list[LedgerEvent], list[RunRow]]:
    """Return the events that others have written, and the rows with them; what is none of ours is left out."""
    events, rows = [], []
    for key, body in documents:
        with contextlib.suppress(ValueError, OverflowError):
            document = codec.read(MirroredEvent, parse_json(body))
            event = LedgerEvent(document.time, RunId(key.user, key.run, key.attempt), printable(document.kind), document.data,
                                printable(document.machine), document.id)  # fmt: skip
            row = document.run if document.run is not None and document.run.id == event.run else None
            if _key(event) == key and _is_sound(event) and (row is None or _is_sound_row(row)):
                events.append(event)
                rows += [_plain(row)] if row is not None else []
    return events, rows


def _is_sound(event: LedgerEvent) -> bool:
    """Tell whether an event is one that a run could have written: what is said of money counts towards limits here."""
    estimate = event.data.get("estimate")
    priced = estimate is None or (isinstance(estimate, (int, float)) and _within(estimate, _MOST["estimate"]))
    return priced and _within(event.time, time.time() + _SKEW) and _ID.fullmatch(event.id) is not None


def _is_sound_row(row: RunRow) -> bool:
    """Tell whether each figure of a row can be: a list that cannot show one row shows none."""
    most = {**_MOST, **dict.fromkeys(_TIMES, time.time() + _SKEW)}
    figures = ((getattr(row, name), limit) for name, limit in most.items())
    texts = (value for item in fields(row) if isinstance(value := getattr(row, item.name), str))
    return all(value is None or _within(value, limit) for value, limit in figures) and all(len(text) <= _LONGEST_TEXT for text in texts)


def _within(value: float, most: float) -> bool:
    return math.isfinite(value) and 0 <= value <= most


def _plain(row: RunRow) -> RunRow:
    """Return a row whose texts a terminal takes: whoever writes to the bucket must not write to a person's terminal."""
    texts = {item.name: printable(value) for item in fields(row) if isinstance(value := getattr(row, item.name), str)}
    return replace(row, **texts)  # type: ignore[arg-type]
