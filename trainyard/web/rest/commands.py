"""What people may have the server do, as a table: a path, the scope that it needs, and the verb with its words.

Every value becomes `--option=value`, or a name that was held against its pattern first: nothing that comes in can be another option.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from trainyard.errors import UserError
from trainyard.ledger.accounts import Scope

NAME = r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$"
RUN = r"^[a-z0-9][a-z0-9-]{0,63}/[a-z0-9][a-z0-9-]{0,63}$"

Stack = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$", examples=["local", "runpod", "auto"])]
Label = Annotated[str, Field(pattern=NAME, examples=["first"])]
RunName = Annotated[str, Field(pattern=RUN, examples=["ann/first"])]
Line = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
Value = str | int | float | bool
Hours = Annotated[float, Field(gt=0, le=10_000)]
Dollars = Annotated[float, Field(ge=0, le=1e9)]


class CommandBody(BaseModel):
    """What a request says; a name that none of its fields has is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    def words(self) -> Iterator[str]:
        """Yield it as options of the verb."""
        for name, value in self.model_dump(exclude_none=True, exclude={"values", "command"}).items():
            yield from _option(name, value)
        yield from (f"--set={name}={_text(value)}" for name, value in (getattr(self, "values", None) or {}).items())
        yield "--json"
        if command := getattr(self, "command", None):
            yield from ("--", *command)


class Nothing(CommandBody):
    """Nothing is to be said."""

    def words(self) -> Iterator[str]:
        """Yield no words: what does not answer in JSON takes no --json."""
        yield from ()


class StartRun(CommandBody):
    """A run, as `submit` takes it. It goes into the queue, and a worker of this server begins it when it is its turn."""

    stack: Stack = "local"
    recipe: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["lora"])] | None = None
    data: Line | None = None
    """s3://, gs://, hf://, https://...#sha256=, run:USER/LABEL/PATH; a path of the server's machine only with scope admin."""
    values: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")], Value] = {}
    """Variables of the recipe."""
    command: Annotated[list[Line], Field(min_length=1, max_length=1000)] | None = None
    """Words of a program of the server's repository, for recipe command."""
    name: Label | None = None
    hours: Hours | None = None
    budget: Dollars | None = None
    """Dollars after which it is stopped and saved."""
    resume: Annotated[int, Field(ge=0, le=100)] | None = None
    """How often it is resumed by itself when its pod is lost."""
    deliver: Line | None = None
    """hub:OWNER/REPO; a place of the server's machine only with scope admin."""
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    after: Annotated[list[RunName], Field(max_length=100)] = []
    """Runs that must have succeeded before."""
    not_before: Annotated[str, Field(pattern=r"^[0-9A-Za-z:.+-]{1,40}$", examples=["2h", "2026-11-30T22:00Z"])] | None = None
    hold: bool = False
    yes: bool = False
    """Consent: data of the server's machine may go to the stack's cloud."""
    dry_run: bool = False
    """Say what would be submitted, and its estimate; nothing is written."""


class GoOn(CommandBody):
    """How a run goes on, or is run again; what is not said is as it was."""

    stack: Stack | None = None
    values: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")], Value] = {}
    hours: Hours | None = None
    budget: Dollars | None = None
    yes: bool = False


class RunAgain(GoOn):
    """How a run is run again."""

    name: Label | None = None


class CancelRun(CommandBody):
    """How a run ends."""

    now: bool = False
    """Nothing is saved."""


class ExtendRun(CommandBody):
    """How much longer its lease is to be."""

    time: Annotated[str, Field(pattern=r"^[0-9]{1,6}(?:\.[0-9]+)?[mhd]$", examples=["2h"])]


class PreferRun(CommandBody):
    """The priority that it is to have."""

    priority: Annotated[int, Field(ge=-10, le=10)]

    def words(self) -> Iterator[str]:
        """Yield it as the verb's second word."""
        yield f"--priority={self.priority}"


class DeliverRun(Nothing):
    """Where its result is to go."""

    to: Annotated[str, Field(pattern=r"^hub:[A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}$", examples=["hub:you/name"])]

    def words(self) -> Iterator[str]:
        """Yield it as an option."""
        yield f"--to={self.to}"


class RemoveRun(Nothing):
    """What goes with a run that is over."""

    result: bool = False
    """Its result in the bucket, too."""

    def words(self) -> Iterator[str]:
        """Yield it; who asks has said yes by asking."""
        yield from ("--yes", *(["--result"] if self.result else []))


@dataclass(frozen=True, slots=True)
class ServedCommand:
    """One thing that can be asked for: ``verb`` with the run of its path as its first word, and what the body says."""

    path: str
    verb: str
    scope: Scope
    body: type[CommandBody]
    summary: str
    keyed: bool = False
    """The verb takes --key: said again, it begins no second run."""


OF_RUNS: Sequence[ServedCommand] = (
    ServedCommand("cancel", "cancel", "run", CancelRun, "End a run: it saves and stops, what it left is kept, its pod is ended."),
    ServedCommand("resume", "resume", "run", GoOn, "Go on with a run that has ended, from its newest checkpoint.", keyed=True),
    ServedCommand("rerun", "rerun", "run", RunAgain, "Run it again as a new run: recipe, values, data and code as they were.", keyed=True),
    ServedCommand("extend", "extend", "run", ExtendRun, "Give its lease more time."),
    ServedCommand("deliver", "deliver", "run", DeliverRun, "Have its result brought to the Hub."),
    ServedCommand("remove", "remove", "run", RemoveRun, "Forget a run that is over."),
    ServedCommand("hold", "queue.hold", "run", Nothing, "Keep a queued run from beginning."),
    ServedCommand("release", "queue.release", "run", Nothing, "Let a run that is held begin when it is its turn."),
    ServedCommand("prefer", "queue.prefer", "run", PreferRun, "Give a queued run another priority."),
    ServedCommand("approve", "approve", "approve", Nothing, "Let a run that needs a person's word begin."),
    ServedCommand("reject", "reject", "approve", Nothing, "Take a run out of the queue that needs a person's word."),
)


def start_words(asked: StartRun, key: str | None) -> list[str]:
    """Return `submit` as it is asked for."""
    if asked.recipe is None and asked.command is None:
        raise UserError("recipe: say what to train, or give a command")
    return ["submit", *([f"--key={key}"] if key else []), *asked.words()]


def words_of(command: ServedCommand, run: str, asked: CommandBody, key: str | None) -> list[str]:
    """Return a verb about a run as it is asked for."""
    if command.body is ExtendRun:
        assert isinstance(asked, ExtendRun)
        return [command.verb, run, asked.time, "--json"]
    return [command.verb, run, *([f"--key={key}"] if key and command.keyed else []), *asked.words()]


def _option(name: str, value: Any) -> Iterator[str]:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        yield from [option] if value else []
    elif isinstance(value, (list, tuple)):
        yield from (f"{option}={_text(each)}" for each in value)
    else:
        yield f"{option}={_text(value)}"


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)
