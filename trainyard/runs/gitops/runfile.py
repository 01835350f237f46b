"""A file of ``runs/``: what one run is asked for, read strictly; every mistake is told at once, with file:line:col."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainyard.errors import Location, UserError, together
from trainyard.nearest import suggest
from trainyard.reading import Shape, read
from trainyard.recipes.configfile import ConfigDocument
from trainyard.recipes.data import OF_RUN
from trainyard.recipes.since import LAST
from trainyard.runs.gitops.schedule import Schedule, read_schedule
from trainyard.runs.verbs.train import TrainRequest
from trainyard.settings.table import SETTINGS
from trainyard.yamlfile import Map, Node, Seq, parse_map

FOLDER = "runs"
NAME = r"[a-z0-9]+(-[a-z0-9]+)*"
_STEM = r"[A-Za-z0-9_.-]+"
_RUN = rf"{_STEM}(/{NAME})?"


@dataclass(frozen=True, slots=True)
class RunField:
    """One key of a run file: what it must be and what it means."""

    shape: Shape
    says: str


FIELDS: Mapping[str, RunField] = {
    "stack": RunField(
        Shape(kind="text", pattern=r"[A-Za-z0-9_-]+", looks_like="runpod"), "where it runs: the stack of Pulumi.<stack>.yaml"
    ),
    "recipe": RunField(Shape(kind="text"), "what is trained: a folder of templates/; lora unless `command` is there"),
    "data": RunField(
        Shape(kind="text"),
        "a file or folder of the repository, s3://, gs://, hf://, https://...#sha256=..., run:<file>/<path> of another file's run",
    ),
    "values": RunField(Shape(kind="map"), "variables of the recipe, as a --config file has them; paths begin at the top of the repository"),
    "command": RunField(Shape(kind="texts"), "the command of the recipe `command`: one line, or a list of words"),
    "name": RunField(Shape(kind="text", pattern=NAME, looks_like="small-lora"), "begins the run's label, instead of the file's name"),
    "hours": RunField(SETTINGS["hours"].shape, "length of the lease, instead of the stack's setting"),
    "budget": RunField(SETTINGS["budget"].shape, "dollars after which the training is stopped and saved"),
    "resume": RunField(SETTINGS["resume"].shape, "how often it is resumed by itself after a lost pod"),
    "after": RunField(
        Shape(kind="texts", pattern=_RUN, looks_like="first or ann/first"),
        "what must have succeeded before: other files of runs/ by their names without .yaml, or runs as user/label",
    ),
    "init_from": RunField(
        Shape(kind="text", pattern=rf"{_RUN}(/[1-9][0-9]{{0,8}})?", looks_like="first or ann/first"),
        "whose adapter the training starts from: another file of runs/ by its name without .yaml (it is waited for), user/label, or last",
    ),
    "since": RunField(
        Shape(kind="text", choices=("last",)),
        "last: only data that the newest success of this very file has not had; where nothing is new no run begins",
    ),
    "schedule": RunField(
        Shape(kind="text", looks_like="0 3 * * 1"), "when it runs, again and again: cron's five fields, minute hour day month weekday"
    ),
    "time_zone": RunField(Shape(kind="text"), "the zone of `schedule`, like Europe/Berlin; UTC without it"),
    "deliver": RunField(Shape(kind="text"), "where the result goes after the run: local, local:DIR or hub:OWNER/REPO"),
}
"""Every key of a run file; `stack` alone must be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """One run as its file asks for it."""

    path: str
    """From the top of the repository: runs/first.yaml."""
    name: str
    """What its label begins with."""
    stack: str
    recipe: str
    data: str | None = None
    values: Map | None = None
    command: tuple[str, ...] | None = None
    hours: float | None = None
    budget: float | None = None
    resume: int | None = None
    deliver: str | None = None
    after: tuple[str, ...] = ()
    """As they stand there: stems of other files, and runs as user/label."""
    init_from: str | None = None
    since: str | None = None
    """``last``, or the attempt that it means."""
    schedule: Schedule | None = None
    where: Mapping[str, Location] = field(default_factory=dict)
    """Where the value of each key stands, for what is wrong with it; ``after.N`` is its N-th item."""

    @property
    def stem(self) -> str:
        """What other files call it."""
        return Path(self.path).stem

    def predecessors(self) -> dict[str, Location | None]:
        """Return what must have succeeded before, with the places: what ``after`` names, and the runs whose results go in.

        One whose very attempt is named is over; whoever takes its result judges it.
        """
        names = {name: self.where.get(f"after.{number}") for number, name in enumerate(self.after)}
        if self.init_from not in (None, LAST):
            names.setdefault(str(self.init_from), self.where.get("init_from"))
        if self.data is not None and self.data.startswith(OF_RUN):
            names.setdefault(run_of_data(self.data)[0], self.where.get("data"))
        return {name: where for name, where in names.items() if name.count("/") < 2}

    def runs_before(self) -> tuple[str, ...]:
        """Return the runs (user/label) that must have succeeded before, for who runs this file alone.

        Raises UserError, with the place, for what means something only among other files and to gitops.sync.
        """
        hint = "With git as the trigger it does: invoke gitops.sync"
        if self.schedule is not None:
            raise UserError("a schedule does not go with one run that is asked for", where=self.where.get("schedule"), hint=hint)
        names = self.predecessors()
        if other := next((name for name in names if "/" not in name), None):
            message = f"'{other}' is another file, and runs of files are not known here"
            raise UserError(message, where=names[other], hint=f"Name its run, as user/label. {hint}")
        return tuple(names)

    def without_inputs(self) -> RunFile | None:
        """Return the file as it can be looked at while what goes into its run is not there yet; None where that is its data."""
        return None if self.data is not None and self.data.startswith(OF_RUN) else replace(self, init_from=None, since=None)

    def request(self, root: Path, *, user: str, label: str, attempt: int, yes: bool) -> TrainRequest:
        """Return what ``train`` is asked for; runs whose results go in stand in it as they do here."""
        return TrainRequest(
            stack=self.stack, recipe=self.recipe, data=self._data(root), hours=self.hours, budget=self.budget, resume=self.resume,
            config=None if self.values is None else ConfigDocument(self.values, root, self.path), words=self.command,
            deliver=self.deliver, name=label, user=user, attempt=attempt, yes=yes, detach=True, init_from=self.init_from, since=self.since,
        )  # fmt: skip

    def _data(self, root: Path) -> str | None:
        elsewhere = self.data is None or "://" in self.data or self.data.startswith(OF_RUN)
        return self.data if elsewhere else str(root / str(self.data))


def run_of_data(data: str) -> tuple[str, str]:
    """Return the run that ``run:<stem>/<path>`` or ``run:<user>/<label>/<attempt>/<path>`` names, and the path in its result."""
    parts = data.removeprefix(OF_RUN).split("/")
    own = len(parts) > 2 and parts[2].isdecimal()
    return "/".join(parts[: 3 if own else 1]), "/".join(parts[3 if own else 1 :])


def read_run_file(text: str, path: str) -> RunFile:
    """Return what a file asks for; raises UserError with all that is wrong in it."""
    document = parse_map(text, path)
    wrong: list[UserError] = []
    values: dict[str, object] = {}
    for key, node in document.items():
        try:
            values[key] = _value(document, key, node)
        except UserError as error:
            wrong.append(error)
    stem = Path(path).stem
    name = str(values.get("name") or stem)
    if "name" not in values and read_wrong(FIELDS["name"].shape, stem):
        message = f"{path}: its name begins the run's label, so it is of a-z, 0-9 and single '-' between them"
        wrong.append(UserError(message, hint="Call the file otherwise, or say in it: name: a-name"))
    if "stack" not in document:
        where = document.where() or Location(path, 1)
        wrong.append(UserError("'stack' is missing: it says where this runs", where=where, hint="A line like: stack: local"))
    if "since" in values and "data" not in values:
        wrong.append(UserError("'since' says nothing without 'data'", where=document.where("since")))
    try:
        schedule = _schedule(document, values)
    except UserError as error:
        wrong.append(error)
    if wrong:
        raise together(wrong, f"things in {path}")
    return replace(_run_file(path, name, values, _places(document)), schedule=schedule)


def _schedule(document: Map, values: Mapping[str, object]) -> Schedule | None:
    cron, zone = values.get("schedule"), values.get("time_zone")
    if cron is None:
        if zone is not None:
            raise UserError("'time_zone' says nothing without 'schedule'", where=document.where("time_zone"))
        return None
    try:
        return read_schedule(str(cron), None if zone is None else str(zone))
    except UserError as error:
        key = "time_zone" if error.facts.get("key") == "time_zone" else "schedule"
        raise UserError(error.message, where=document.where(key, value=True), hint=error.hint) from None


def _places(document: Map) -> dict[str, Location]:
    places = {key: document.where(key, value=True) for key in document}
    after = document.get("after")
    if isinstance(after, Seq):
        places |= {f"after.{number}": after.where(number) for number in range(len(after))}
    elif "after" in document:
        places["after.0"] = places["after"]
    return {key: place for key, place in places.items() if place is not None}


def read_wrong(shape: Shape, value: object) -> bool:
    """Tell whether a value is none of a shape."""
    try:
        read(shape, value, "")
    except UserError:
        return True
    return False


def _value(document: Map, key: str, node: Node) -> object:
    field = FIELDS.get(key)
    if field is None:
        near = suggest(key, FIELDS)
        hint = None if near else f"A run file knows {', '.join(FIELDS)}; variables of its recipe stand below 'values:'."
        raise UserError(f"unknown key '{key}'{near}", where=document.where(key), hint=hint)
    try:
        value = read(field.shape, node, f"'{key}'")
        return tuple(shlex.split(node)) if key == "command" and isinstance(node, str) else value
    except (UserError, ValueError) as error:
        message = error.message if isinstance(error, UserError) else f"'{key}' cannot be read as a line of a shell: {error}"
        raise UserError(message, where=document.where(key, value=True)) from None


def _run_file(path: str, name: str, values: Mapping[str, object], where: Mapping[str, Location]) -> RunFile:
    command, asked_values, after = values.get("command"), values.get("values"), values.get("after")

    def text(key: str) -> str | None:
        value = values.get(key)
        return None if value is None else str(value)

    def number(key: str) -> float | None:
        value = values.get(key)
        return float(value) if isinstance(value, (int, float)) else None

    resume = number("resume")
    return RunFile(
        path=path, name=name, stack=text("stack") or "", recipe=text("recipe") or ("lora" if command is None else "command"),
        data=text("data"), values=asked_values if isinstance(asked_values, Map) else None,
        command=command if isinstance(command, tuple) else None, hours=number("hours"), budget=number("budget"),
        resume=None if resume is None else int(resume), deliver=text("deliver"),
        after=after if isinstance(after, tuple) else (), init_from=text("init_from"), since=text("since"), where=where,
    )  # fmt: skip
