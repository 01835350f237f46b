"""How files of runs/ wait for one another: what is wrong with that over the whole set, and how each stands now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.recipes.data import OF_RUN
from trainyard.recipes.since import LAST
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops.labels import label_in
from trainyard.runs.gitops.runfile import RunFile, run_of_data
from trainyard.runs.gitops.schedule import Schedule
from trainyard.runs.planning.waiting import Predecessor, Readiness, cycle, in_order, readiness
from trainyard.runs.verbs.known import KnownRun, known_run, predecessor_of
from trainyard.runs.verbs.lastrun import last_success
from trainyard.runs.verbs.takeup import buckets


@dataclass(frozen=True, slots=True)
class WantedRun:
    """A file of HEAD with the name of its run."""

    file: RunFile
    user: str
    label: str
    held: bool
    """It has changes that are not committed: nothing is started and nothing cancelled."""
    schedule: Schedule | None = None
    """Its own, or that of what it waits for."""
    due: float | None = None
    """Of one with a schedule the newest due time (epoch seconds), None where none has come since its commit: nothing is to run."""

    @property
    def is_due(self) -> bool:
        """Tell whether there is a run to be."""
        return self.schedule is None or self.due is not None

    @property
    def run(self) -> str:
        """Its name: user/label."""
        return f"{self.user}/{self.label}"


def wrong_links(files: Sequence[RunFile], stems: Sequence[str]) -> list[UserError]:
    """Return what is wrong with what files wait for: names of no file, themselves, one another. ``stems``: of all files, bad ones too."""
    wrong: list[UserError] = []
    for file in files:
        for name, where in file.predecessors().items():
            if name == file.stem:
                wrong.append(UserError(f"'{name}' waits for itself", where=where, hint="Name another file, or none."))
            elif "/" not in name and name not in stems:
                others = [stem for stem in stems if stem != file.stem]
                near = suggest(name, others)
                hint = None if near else f"Files: {', '.join(others) or 'no other one'}. A run of others is named as user/label."
                wrong.append(UserError(f"there is no runs/{name}.yaml to wait for{near}", where=where, hint=hint))
    return wrong or _wrong_cycle(files)


def _wrong_cycle(files: Sequence[RunFile]) -> list[UserError]:
    names = cycle(_after(files))
    if not names:
        return []
    first = next(file for file in files if file.stem == names[0])
    message = f"these files wait for one another, so none of them would ever begin: {' -> '.join(names)}"
    return [UserError(message, where=first.predecessors()[names[1]], hint="Take one of these names out of an 'after:' or 'init_from:'.")]


def _after(files: Sequence[RunFile]) -> dict[str, list[str]]:
    stems = {file.stem for file in files}
    return {file.stem: [name for name in file.predecessors() if name in stems] for file in files}


def sorted_by_links(desired: Sequence[WantedRun]) -> list[WantedRun]:
    """Return runs so that each stands behind all it waits for."""
    by_stem = {one.file.stem: one for one in desired}
    return [by_stem[stem] for stem in in_order(_after([one.file for one in desired]))]


def inherited(file: RunFile, before: Mapping[str, WantedRun]) -> WantedRun | None:
    """Return the run whose schedule a file without one follows: it runs once for each run of that; ``before``: runs by their files' stems.

    Raises UserError, with the place, where it waits for files with different schedules.
    """
    leaders = [(name, before[name]) for name in file.predecessors() if name in before and before[name].schedule is not None]
    if file.schedule is not None or not leaders:
        return None
    if other := next((name for name, leader in leaders if leader.schedule != leaders[0][1].schedule), None):
        message = f"'{leaders[0][0]}' and '{other}' have different schedules, so that nothing says when this one is due"
        raise UserError(message, where=file.predecessors()[other], hint='Say its own: schedule: "0 3 * * 1"')
    return min((leader for _, leader in leaders), key=lambda leader: leader.due or 0.0)


@dataclass(frozen=True, slots=True)
class LinkedRuns:
    """The runs that files of HEAD wait for: by stem those of other files, by name any other's."""

    context: CommandContext
    desired: tuple[WantedRun, ...]
    known: Mapping[tuple[str, str], KnownRun]

    def predecessors(self, one: WantedRun) -> dict[str, Predecessor]:
        """Return how all that a run waits for stands now, by the names in its file.

        Raises UserError, with its place in the file, for a run that nobody knows; StoreError.
        """
        return {name: self._state(name, one) for name in one.file.predecessors()}

    def readiness(self, one: WantedRun) -> Readiness:
        """Judge whether a run may begin; raises what predecessors() does. One that is at work when the next is due is waited for."""
        return readiness([*self.predecessors(one).values(), *self._earlier(one)])

    def _earlier(self, one: WantedRun) -> list[Predecessor]:
        if one.schedule is None:
            return []
        mine = [known for known in self.known.values() if known.standing == "at work" and _is_earlier(known, one)]
        now = [known_run(self.context, (), known.key.user, known.key.run) or known for known in mine]
        return [Predecessor(known.run, "pending", f"its earlier run, {known.says}") for known in now if known.standing == "at work"]

    def with_inputs(self, one: WantedRun) -> RunFile:
        """Return the file of a run that is ready with the exact attempts in place of other files' names, and of ``last``."""
        now, file = self.predecessors(one), self._with_last(one)
        if file.init_from in now:
            file = replace(file, init_from=now[file.init_from].run)
        if file.data is not None and file.data.startswith(OF_RUN):
            name, path = run_of_data(file.data)
            if name in now:
                file = replace(file, data=f"{OF_RUN}{now[name].run}" + (f"/{path}" if path else ""))
        return file

    def _with_last(self, one: WantedRun) -> RunFile:
        file = one.file
        if LAST not in (file.init_from, file.since):
            return file
        key = last_success(self.context, file.stack, one.user, f"{file.name}-", lambda record: _is_of(record.label, file.name))
        run = None if key is None else str(key)
        if run is None:
            self.context.ui.say(f"last       no run of {file.path} has succeeded yet: {one.run} begins from the base model, with all data")
        init = run if file.init_from == LAST else file.init_from
        return replace(file, init_from=init, since=run if file.since == LAST else file.since)

    def _state(self, name: str, asker: WantedRun) -> Predecessor:
        user, _, label = name.rpartition("/")
        if user:
            known = known_run(self.context, buckets(self.context), user, label)
            if known is None:
                where = asker.file.predecessors()[name]
                raise UserError(f"nobody knows a run {name}, here or in a bucket of this repository's stacks", where=where)
            return predecessor_of(name, known)
        other = next((one for one in self.desired if one.file.stem == name), None)
        if other is None:
            return Predecessor(name, "pending", f"runs/{name}.yaml cannot be read")
        # What this very sync has finished is known here by now.
        if not other.is_due:
            return Predecessor(name, "pending", "its first due time has not come")
        known = known_run(self.context, (), other.user, other.label) or self.known.get((other.user, other.label))
        held = "it has changes that are not committed" if other.held and known is None else "not begun"
        return predecessor_of(name, known, held)


def _is_of(label: str, name: str) -> bool:
    said = label_in(label)
    return said is not None and said.name == name


def _is_earlier(known: KnownRun, one: WantedRun) -> bool:
    return known.key.user == one.user and _is_of(known.key.run, one.file.name) and known.key.run != one.label


def stems_of(paths: Sequence[str]) -> list[str]:
    """Return what files are called by others."""
    return [Path(path).stem for path in paths]
