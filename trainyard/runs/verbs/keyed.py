"""Idempotency keys of commands: said again within a day, a key gives the run that it gave first, however that went."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainyard.clock import format_time
from trainyard.errors import Busy, RefusedError, UserError
from trainyard.filelock import hold_lock
from trainyard.ledger.keys import KeyRow, StartKey, key_row
from trainyard.ledger.rows import REMOVED, RunRow
from trainyard.ledger.runid import RunId
from trainyard.recipes.configfile import ConfigDocument
from trainyard.runs.context import CommandContext
from trainyard.runs.records import attempts
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.verbs.known import gave_up
from trainyard.settings.user import user_name

_KEY = re.compile(r"[!-~]{1,255}")
_UNRENTED = 3600.0
"""Seconds in which another machine may still rent for a run that it has begun."""
_FOLLOWING = ("prepared", "up")
"""States in which a run does not train yet."""
_BESIDE = ("key", "yes", "detach", "attempt", "user", "submitted", "base")
"""What of a request says nothing about the run itself."""
SUBMIT = "submit"
"""The verb whose keys stand for entries of the queue; their token is the entry's id."""
_OPTIONS = {"words": "the command behind --", "run": "RUN", "request_file": "--from"}
_SEEN, _PAUSE = 10, 0.5
"""How often, and how many seconds apart, the ledger is asked for a run that another checkout is just putting there."""


@dataclass(frozen=True, slots=True)
class KeyedRun:
    """The run that a key stands for: its folder where it is known here, else the ledger's row."""

    row: KeyRow
    folder: RunFolder | None
    elsewhere: RunRow | None = None


def start_key(
    context: CommandContext, key: str | None, verb: str, request: Any, more: Mapping[str, object] | None = None
) -> StartKey | None:  # fmt: skip
    """Return a key with digests of a request (a frozen dataclass, and ``more`` by option); raises UserError for what is no key."""
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise UserError("--key takes 1 to 255 letters, digits and signs, no spaces", hint='Like: --key "${CI_PIPELINE_ID:?}-nightly"')
    return StartKey(key=key, verb=verb, user=user_name(context.env), request=_parts(key, request, more or {}))


def begin_keyed(
    context: CommandContext, start: StartKey | None, prepare: Callable[[StartKey | None], RunFolder]
) -> RunFolder | KeyedRun:  # fmt: skip
    """Prepare a run, or return the one that the key stands for: never a second one, however many say it at once.

    Raises RefusedError where the key was said for another request, Busy where another machine begins its run at this moment.
    """
    if start is None:
        return prepare(None)
    known = _known(context, start)
    if isinstance(known, KeyedRun):
        return _say_known(context, known)
    try:
        return prepare(replace(start, replaces=known))
    except RefusedError:  # the key was taken meanwhile, or the run's name by whoever took it
        again = _known(context, start)
        if isinstance(again, KeyedRun):
            return _say_known(context, again)
        raise


def _say_known(context: CommandContext, known: KeyedRun) -> KeyedRun:
    row = known.row
    context.ui.say(f"key        {row.key}: run {row.run}, begun {format_time(row.time)} by {row.user} on {row.machine}; no other is begun")
    record_act(context, "use key", f"{row.run}/{row.run.attempt}", key=row.key)
    return known


def _known(context: CommandContext, start: StartKey) -> KeyedRun | str | None:
    """Return the run that a key stands for; else the token of one that came to nothing, None for a new key."""
    row = key_row(context.ledger().database, start.key)
    if row is None:
        return None
    refuse_other(row, start)
    folder = _folder(context, row)
    if folder is not None:
        return row.token if came_to_nothing(folder.load()) else KeyedRun(row, _newest(context, folder))
    if row.token in attempts.tokens_here(context.places.runs, row.run.user, row.run.label):
        return row.token  # whoever took it here died before there was a run
    return _elsewhere(context, row)


def refuse_other(row: KeyRow, start: StartKey) -> None:
    """Raise RefusedError where a key was said for another request before, naming what differs."""
    if names := start.differs_from(row):
        raise RefusedError(
            f"key '{start.key}' was said for another request, {format_time(row.time)}, which is run {row.run}; nothing was begun. "
            f"What differs: {', '.join(names)}",
            hint=f"For another run say another key; what that one is: invoke {'queue' if row.verb == SUBMIT else f'show {row.run}'}",
        )


def _folder(context: CommandContext, row: KeyRow) -> RunFolder | None:
    """Return the run's folder here, having waited for whoever is just writing it."""
    runs = context.places.runs
    folder = RunFolder(row.run.folder(runs))
    if row.token in attempts.tokens_here(runs, row.run.user, row.run.label):
        with hold_lock(runs / row.run.user / row.run.label / "lock"):
            pass
    with contextlib.suppress(UserError):
        if folder.path.is_dir() and folder.load().token == row.token:
            return folder
    return None


def came_to_nothing(record: RunRecord) -> bool:
    """Tell whether an attempt ended before anything was rented for it, or because whoever began it was told to go."""
    return record.reached("ended") and (gave_up(record) or (not record.pods and record.pod.pod_id is None))


def _newest(context: CommandContext, folder: RunFolder) -> RunFolder:
    """Return the attempt that a run has come to by itself, after lost pods."""
    while True:
        run = folder.load().id
        events = context.ledger().events(run, kind="resumed")
        number = next((event.data.get("attempt") for event in reversed(events) if event.data.get("by") == "itself"), None)
        if not isinstance(number, int):
            return folder
        following = RunFolder(RunId(run.user, run.label, number).folder(context.places.runs))
        if not following.path.is_dir() or number <= run.attempt:
            return folder
        folder = following


def _elsewhere(context: CommandContext, row: KeyRow) -> KeyedRun | str | None:
    """Return a run that is driven from another checkout, by what the ledger has; the token of one that never rented."""
    ledger = context.ledger()
    for tries in range(_SEEN):
        runs = [one for one in ledger.rows_of([row.run]) if one.token == row.token]
        if runs or time.time() - row.time > _UNRENTED:
            break
        time.sleep(_PAUSE if tries else 0.0)
    events = ledger.events(row.run)
    if any(event.kind == REMOVED and event.data.get("token") == row.token for event in events):
        raise RefusedError(
            f"key '{row.key}' stands for run {row.run}, whose record was removed; nothing was begun", hint="Say another key."
        )
    asked_for = any(event.kind == "up" for event in events)  # a pod may be there, whatever the row says
    idle = time.time() - max([row.time, *(one.changed for one in runs)]) > _UNRENTED
    if not asked_for and (idle or (runs and runs[0].over)):
        return row.token
    if not runs:
        raise Busy(
            f"run {row.run} of key '{row.key}' is being begun on {row.machine}",
            hint="Say the same again in a moment; an hour after it was begun and not rented for, the key is free.",
        )
    return KeyedRun(row, None, runs[0])


def state_line(known: KeyedRun) -> str:
    """Return how a run stands that is driven elsewhere."""
    run = known.elsewhere
    assert run is not None
    where = f"; its result: {run.s3_url}" if run.s3_url else ""
    when = format_time(run.changed)
    return f"run        {run.id} is driven from {run.machine}: {run.state}, ${run.cost:.2f}, as of {when}{where}"


def exit_status_of(run: RunRow, *, detach: bool) -> int:
    """Return the exit code of a run that is driven elsewhere: 0 succeeded, 1 not, 8 it does not train yet, 11 it trains."""
    if run.over:
        return 0 if run.state.startswith("succeeded") else 1
    if run.state in _FOLLOWING:
        return Busy.exit_code
    return 0 if detach else 11


def _parts(key: str, request: Any, more: Mapping[str, object]) -> Mapping[str, str]:
    """Return the digest of each part of a request that says something about the run; what is not said has none."""
    values = {name: value for name, value in more.items() if value not in (None, (), "")}
    for item in dataclasses.fields(request):
        value = getattr(request, item.name)
        if item.name in _BESIDE or value in (None, (), ""):
            continue
        if item.name == "sets":
            values |= {f"--set {text.partition('=')[0]}": text for text in value}  # the last of two counts
        elif isinstance(value, ConfigDocument):
            values |= {f"values {name}": one for name, one in value.document.items()}
        else:
            values[_OPTIONS.get(item.name, f"--{item.name}")] = _content(value)
    return {name: hashlib.sha256(json.dumps([key, name, value], default=str).encode()).hexdigest()[:16] for name, value in values.items()}


def _content(value: object) -> object:
    """Return what a part says: a file what is in it, wherever it lies."""
    if isinstance(value, Path):
        with contextlib.suppress(OSError):
            return hashlib.sha256(value.read_bytes()).hexdigest()
    return str(value) if isinstance(value, Path) else value
