"""What is written down of a cycle: a folder a round here, and a copy beside the logs of its training in the bucket.

.trainyard/cycles/NAME/N/  cycle.json (request, steps), rows.jsonl and its reports, learnt.txt, answers
logs/USER/NAME-N/1/        cycle.json and learnt.txt in the bucket, by which another machine goes on
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainyard.clock import format_time
from trainyard.errors import Busy, TrainyardError, UserError
from trainyard.filelock import acquire_now, closing
from trainyard.jsontext import parse_json
from trainyard.runs.context import CommandContext
from trainyard.runs.records import codec
from trainyard.runs.records.attempts import tokens_here
from trainyard.runs.records.record import write_json
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.settings.user import user_name
from trainyard.storage import bucket
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey
from trainyard.storage.markers import ATTEMPTS
from trainyard.storage.seal import put_proven, read

CycleStage = Literal["data", "train", "merge", "gguf", "ollama", "prompts", "push"]
_BOOK, LEARNT = "cycle.json", "learnt.txt"
"""The digests of all rows that the rounds up to this one have learnt, a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRequest:
    """What is asked for, again and again; paths are absolute."""

    name: str
    stack: str
    data: tuple[str, ...]
    data_sets: tuple[str, ...] = ()
    """Variables of the data builder."""
    config: str | None = None
    sets: tuple[str, ...] = ()
    """Variables of recipe lora; those that the data builder has, too, go there as well."""
    hours: float | None = None
    budget: float | None = None
    yes: bool = False
    since_last: bool = False
    init_from_last: bool = False
    merge: bool = False
    gguf: str | None = None
    """The quantization, like Q4_K_M."""
    ollama: str | None = None
    """NAME or NAME:TAG of a model at Ollama's server."""
    prompts: str | None = None
    against: str = "base"
    """Whose answers stand beside those of the round's model: base, last, none."""
    hub: str | None = None

    @property
    def stages(self) -> tuple[CycleStage, ...]:
        """Return what is done, in this order."""
        more: dict[CycleStage, object] = {
            "merge": self.merge, "gguf": self.gguf or self.ollama, "ollama": self.ollama, "prompts": self.prompts, "push": self.hub,
        }  # fmt: skip
        return ("data", "train", *(stage for stage, asked_by in more.items() if asked_by))


@dataclass(slots=True, kw_only=True)
class CycleStep:
    """How far a stage has come. ``outcome``: a run, a file or an address."""

    stage: CycleStage
    state: Literal["done", "failed"]
    at: str
    outcome: str = ""
    error: str = ""


@dataclass(slots=True, kw_only=True)
class CycleRound:
    """One time through all stages; its names are a format that other versions read."""

    number: int
    user: str
    digest: str
    """Of the request and of every byte of the sources: the same again is this round again."""
    begun: str
    request: CycleRequest
    steps: list[CycleStep] = field(default_factory=list)
    over: bool = False
    nothing_new: bool = False
    """No row was left that an earlier round had not learnt: there was nothing to train on."""

    @property
    def label(self) -> str:
        """The name of its training."""
        return f"{self.request.name}-{self.number}"

    def outcome(self, stage: CycleStage) -> str | None:
        """Return what a stage has left, None before it is done."""
        return next((step.outcome for step in self.steps if step.stage == stage and step.state == "done"), None)

    def note(self, stage: CycleStage, state: Literal["done", "failed"], *, outcome: str = "", error: str = "") -> None:
        """Write down how a stage has ended, in place of what was known of it."""
        self.steps = [step for step in self.steps if step.stage != stage]
        self.steps.append(CycleStep(stage=stage, state=state, at=format_time(time.time()), outcome=outcome, error=error))


@dataclass(frozen=True, slots=True)
class CycleBook:
    """The rounds of one cycle."""

    context: CommandContext
    name: str
    stack: str

    @property
    def home(self) -> Path:
        """Return the folder of all rounds."""
        return self.context.places.home / "cycles" / self.name

    def folder(self, number: int) -> Path:
        """Return the folder of a round."""
        return self.home / str(number)

    @property
    def user(self) -> str:
        """Return whose runs they are."""
        return user_name(self.context.env, self.context.settings(self.stack).user)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the right to go on with the cycle here; raises Busy while another process does."""
        self.home.mkdir(parents=True, exist_ok=True)
        handle = acquire_now(self.home / "lock")
        if handle is None:
            raise Busy(f"another process is at work on cycle {self.name}; nothing was begun", hint="It is the same one: wait for its end.")
        with closing(handle):
            yield

    def newest(self) -> CycleRound | None:
        """Return the newest round that this machine or the bucket knows; what only the bucket has is written down here, too."""
        here, store = self.newest_here(), self.store()
        there = _newest_of(store, self.user, self.name) if store else 0
        number = there
        while store and number > here:
            # Back to one that has learnt: what that has is what the next one may leave out.
            self._take_in(store, number)
            if (self.folder(number) / _BOOK).exists() and self.has_learnt(number):
                break
            number -= 1
        here = max(here, self.newest_here())
        return self.read(here) if here else None

    def newest_here(self) -> int:
        """Return the number of the newest round that has a folder here, 0 for none."""
        return max((int(path.parent.name) for path in self.home.glob(f"*/{_BOOK}") if path.parent.name.isdigit()), default=0)

    def has_learnt(self, number: int) -> bool:
        """Tell whether the training of a round has succeeded, as far as this machine knows."""
        return (self.folder(number) / _BOOK).exists() and self.read(number).outcome("train") is not None

    def next_number(self) -> int:
        """Return a number that no round has, here or in the bucket."""
        store = self.store()
        return max(self.newest_here(), _newest_of(store, self.user, self.name) if store else 0) + 1

    def read(self, number: int) -> CycleRound:
        """Return a round; raises UserError for one that cannot be read."""
        path = self.folder(number) / _BOOK
        try:
            return codec.read(CycleRound, parse_json(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: what is known of this round cannot be read: {error}", hint=f"Move its folder away: {path.parent}"
            ) from None

    def save(self, of: CycleRound) -> None:
        """Write a round down here, and beside its training's logs where a bucket can be asked; trouble with that one is said."""
        write_json(self.folder(of.number) / _BOOK, dataclasses.asdict(of))
        store, key = self.store(), ResultKey(of.user, of.label, 1)
        if store is None:
            return
        try:
            for name in (LEARNT, _BOOK):
                path = self.folder(of.number) / name
                if path.is_file():
                    put_proven(store, key.logs + name, path.read_bytes())
        except TrainyardError as error:
            self.context.ui.warn(f"no other machine knows how far {self.name} is: {error.message}")

    def store(self) -> StoreSettings | None:
        """Return the stack's bucket, None where there is none, or none yet."""
        with contextlib.suppress(UserError):
            return bucket_of(self.context, self.stack)
        return None

    def is_claimed_elsewhere(self, label: str) -> bool:
        """Tell whether a run of this name was begun from another checkout, by the bucket's word."""
        store = self.store()
        if store is None or tokens_here(self.context.places.runs, self.user, label):
            return False
        return label in _labels(store, self.user)

    def _take_in(self, store: StoreSettings, number: int) -> None:
        key, folder = ResultKey(self.user, f"{self.name}-{number}", 1), self.folder(number)
        for name in (LEARNT, _BOOK):
            body = read(store, key.logs + name)
            if body is not None:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(body)


def _newest_of(store: StoreSettings, user: str, name: str) -> int:
    """Return the number of the newest round whose training a bucket knows of, 0 for none."""
    numbers = [int(match[1]) for label in _labels(store, user) if (match := re.fullmatch(rf"{re.escape(name)}-([0-9]+)", label))]
    return max(numbers, default=0)


def _labels(store: StoreSettings, user: str) -> set[str]:
    try:
        return {label.strip("/") for label in bucket.folders(store, f"{ATTEMPTS}{user}/")}
    except TrainyardError:  # the first run of its stack makes the bucket
        return set()
