"""Which attempt of its name a new run is: claimed write-once in the bucket before anything is rented, else counted at home.

A token, not a name, says whose a result is. The draft of a run's folder bears its token until it is renamed to the
attempt's number: a claim whose process died, or whose answer was lost, is found again by the next command.
"""

from __future__ import annotations

import contextlib
import importlib
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trainyard.clock import format_time
from trainyard.config import Places
from trainyard.errors import RefusedError, StoreError
from trainyard.filelock import acquire_now, closing, hold_lock
from trainyard.runs.context import CommandContext
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.parts import RunBucket
from trainyard.runs.records.record import RunFolder

if TYPE_CHECKING:
    from trainyard.storage.client import StoreSettings
    from trainyard.storage.manifest import ResultKey
    from trainyard.storage.markers import Claim

T = TypeVar("T")
_DRAFT = ".new-"
_UNCLAIMED = "the run's name could not be claimed, nothing was rented"


class Overtaken(RefusedError):
    """Somebody else has begun the attempt."""


@dataclass(frozen=True, slots=True)
class ClaimPatience:
    """Seconds in which a claim is waited for, after which that is first said, and between two such words."""

    whole: float = 240.0  # a store that is slow to list (180 s, client.py) answers within
    first: float = 5.0
    every: float = 15.0


@dataclass(slots=True)
class Draft:
    """The folder of a run that is being written; it gets its attempt's number when it is complete."""

    path: Path
    token: str
    claimed: bool = False


@contextmanager
def reserved(runs: Path, user: str, label: str) -> Iterator[Draft]:
    """Hold a name in this checkout while its next attempt is written; yields the attempt's draft.

    Raises RefusedError when the name's newest attempt has not ended: one command said twice rents one pod.
    """
    folder = runs / user / label
    with hold_lock(folder / "lock"):
        refuse_live(runs, user, label)
        draft = _draft(folder)
        try:
            yield draft
        except BaseException:
            # The token of a claim that may have arrived is kept, in the name of an empty folder.
            shutil.rmtree(draft.path, ignore_errors=True)
            if draft.claimed:
                with contextlib.suppress(OSError):
                    draft.path.mkdir()
            raise


def refuse_live(runs: Path, user: str, label: str) -> None:
    """Raise RefusedError when an attempt of this name, started from this checkout, has not ended."""
    for number in reversed(_numbers(runs / user / label)):
        record = RunFolder(RunId(user, label, number).folder(runs)).load()
        if not record.reached("ended"):
            raise RefusedError(
                f"run {record.id} is not over (attempt {number}, {record.phase}); nothing was created",
                hint=f"Go on with it: invoke attach {record.id}. A run beside it needs another --name.",
            )


def claim(
    context: CommandContext, draft: Draft, user: str, label: str, bucket: RunBucket | None, patience: ClaimPatience = ClaimPatience(),
    *, recipe: str = "", after: int | None = None, exactly: int | None = None,
) -> int:  # fmt: skip
    """Claim the next attempt of a name and return its number; says so when the name was used before.

    ``after``: the newest attempt that was known when it was decided what this one goes on from; RefusedError where another
    has been begun since. ``exactly``: the number that it must be; Overtaken where somebody else has it.
    Raises StoreError when the bucket refuses, or does not answer in time: nothing may be rented then.
    """
    here = at_home(context.places, user, label)
    if exactly is not None and exactly <= here:
        raise Overtaken(f"attempt {exactly} of {user}/{label} was begun here meanwhile; nothing was rented")
    if not bucket:
        if here:
            context.ui.say(f"name       {user}/{label} was used before, on this machine: this is attempt {here + 1}")
        return here + 1
    from trainyard.storage import markers
    from trainyard.storage.manifest import ResultKey

    settings = _store(context, bucket)
    mine = markers.Claim(draft.token, user, socket.gethostname(), format_time(time.time()), recipe)
    draft.claimed = True

    def ask() -> tuple[int, str]:
        if exactly is not None:
            return _exactly(context, draft, settings, ResultKey(user, label, exactly), mine), ""
        number = markers.next_attempt(settings, context.places, user, label, mine, above=here)
        if number == 1:
            return number, ""
        before = ResultKey(user, label, number - 1)
        return number, markers.describe_claim(settings, before, _token_of_ended(context.places.runs, before.attempt, user, label))

    number, marker = _waited_for(ask, f"the store of {settings.url}", context.ui.say, patience)
    if after is not None:
        _refuse_overtaken(settings, draft, mine, range(after + 1, number), ResultKey(user, label, number))
    if marker:
        context.ui.say(f"name       {user}/{label} is known ({marker}): this is attempt {number}")
    return number


def _store(context: CommandContext, bucket: RunBucket) -> StoreSettings:
    from trainyard.runs.records.stores import store_of

    settings = store_of(context, bucket)
    if settings is None:
        raise StoreError(f"no credentials of the store of bucket '{bucket.bucket}' are set; nothing was rented")
    return settings


def _exactly(context: CommandContext, draft: Draft, settings: StoreSettings, where: ResultKey, mine: Claim) -> int:
    from trainyard.storage import markers

    holder = markers.claim_exactly(settings, context.places, where, mine)
    if holder is None or holder.token == mine.token:
        return where.attempt
    draft.claimed = False
    raise Overtaken(f"attempt {where.attempt} of {where.user}/{where.run} was begun meanwhile ({holder}); nothing was rented")


def tokens_here(runs: Path, user: str, label: str) -> set[str]:
    """Return the tokens that this checkout has claimed attempts of a name with: of its runs, and of starts that became none."""
    folder = runs / user / label
    numbers = (RunId(user, label, number).folder(runs) for number in _numbers(folder))
    return {path.name[len(_DRAFT) :] for path in folder.glob(f"{_DRAFT}*")} | {RunFolder(path).load().token for path in numbers}


def is_abandoned(runs: Path, run: RunId, token: str) -> bool:
    """Tell whether a process died while it wrote an attempt with this token: its draft is here, and nobody writes it."""
    folder = runs / run.user / run.label
    if not (folder / f"{_DRAFT}{token}").is_dir() or (handle := acquire_now(folder / "lock")) is None:
        return False
    with closing(handle):
        return (folder / f"{_DRAFT}{token}").is_dir() and not run.folder(runs).exists()


def give_back_abandoned(settings: StoreSettings, runs: Path, where: ResultKey) -> bool:
    """Give the claim of an attempt back that a process died over while it wrote it here, before anything could be rented for it.

    False when it is none of those. Raises StoreError.
    """
    from trainyard.storage import markers

    run, claim = RunId(where.user, where.run, where.attempt), markers.claim_of(settings, where)
    folder = runs / run.user / run.label
    if claim is None or not (draft := folder / f"{_DRAFT}{claim.token}").is_dir() or (handle := acquire_now(folder / "lock")) is None:
        return False
    with closing(handle):
        if not draft.is_dir() or run.folder(runs).exists():
            return False
        markers.give_back(settings, where, claim)
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _refuse_overtaken(settings: StoreSettings, draft: Draft, mine: Claim, between: range, where: ResultKey) -> None:
    """Give the claim back and raise RefusedError where another machine has begun an attempt since it was decided to go on."""
    from trainyard.storage import markers
    from trainyard.storage.manifest import ResultKey

    run = f"{where.user}/{where.run}"
    for number in between:
        other = markers.claim_of(settings, ResultKey(where.user, where.run, number))
        if other is None or other.deleted:
            continue
        markers.give_back(settings, where, mine)
        draft.claimed = False
        raise RefusedError(
            f"attempt {number} of {run} was begun meanwhile ({other}); nothing was rented",
            hint=f"Where it was started: invoke attach {run}. When it is over: invoke resume {run}",
        )


def _waited_for(ask: Callable[[], T], whom: str, say: Callable[[str], None], patience: ClaimPatience) -> T:
    """Return what a question to a store gives, saying what is waited for; raises StoreError when it takes too long.

    Then the question is left behind in its thread: a client of S3 times each read, and tries again.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="claim", daemon=True).start()
    began, pause = time.monotonic(), patience.first
    while True:
        if wait([answer], min(pause, patience.whole)).done:
            return _result(answer)
        waited, pause = time.monotonic() - began, patience.every
        if waited >= patience.whole:
            hint = (
                "Repeat the command when the store answers. With `trainyard:bucket: none` they come home over SSH, where its cloud has it."
            )
            raise StoreError(
                f"the run's name could not be claimed, nothing was rented: {whom} has not answered for {waited:.0f} s", hint=hint
            )
        say(f"waiting    {waited:.0f} s for {whom} to take the run's name; nothing is rented yet")


def _result(answer: Future[T]) -> T:
    try:
        return answer.result()
    except StoreError as error:
        raise StoreError(f"{_UNCLAIMED}: {error.message}", hint=error.hint) from None


def preload() -> None:
    """Import what a claim needs, while the cloud is asked for its offers."""
    with contextlib.suppress(Exception):  # who needs it says what is wrong with it
        importlib.import_module("trainyard.storage.markers")


def at_home(places: Places, user: str, label: str) -> int:
    """Return the newest attempt of a name that this checkout knows, by its records or by what came home; 0 for none."""
    numbers = _numbers(places.runs / user / label)
    out = places.root / "out"
    if RunId(user, label).home(out).exists():
        numbers.append(1)
    numbers += [int(path.suffix[1:]) for path in (out / user).glob(f"{label}.*") if path.suffix.isascii() and path.suffix[1:].isdigit()]
    return max(numbers, default=0)


def _token_of_ended(runs: Path, attempt: int, user: str, label: str) -> str | None:
    """Return the token of an attempt of this checkout; refuse_live() has seen that it is over."""
    folder = RunFolder(RunId(user, label, attempt).folder(runs))
    return folder.load().token if folder.path.is_dir() else None


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*/") if path.name.isdigit())


def _draft(folder: Path) -> Draft:
    """Return a fresh draft, under the token of one that was left behind: its claim may be in the bucket."""
    left = sorted(folder.glob(f"{_DRAFT}*"))
    token = left[-1].name[len(_DRAFT) :] if left else secrets.token_hex(16)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    draft = folder / f"{_DRAFT}{token}"
    draft.mkdir()
    return Draft(draft, token)
