"""How files of runs/ wait for one another: what is wrong with that over the whole set, and how each stands now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.recipes.data import OF_RUN
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops.runfile import RunFile, run_of_data
from trainyard.runs.planning.waiting import Predecessor, Readiness, cycle, in_order, readiness
from trainyard.runs.verbs.known import KnownRun, known_run, predecessor_of
from trainyard.runs.verbs.takeup import buckets


@dataclass(frozen=True, slots=True)
class WantedRun:
    """A file of HEAD with the name of its run."""

    file: RunFile
    user: str
    label: str
    held: bool
    """It has changes that are not committed: nothing is started and nothing cancelled."""

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
        """Judge whether a run may begin; raises what predecessors() does."""
        return readiness(self.predecessors(one).values())

    def with_inputs(self, one: WantedRun) -> RunFile:
        """Return the file of a run that is ready with the exact attempts in place of other files' names."""
        now, file = self.predecessors(one), one.file
        if file.init_from in now:
            file = replace(file, init_from=now[file.init_from].run)
        if file.data is not None and file.data.startswith(OF_RUN):
            name, path = run_of_data(file.data)
            if name in now:
                file = replace(file, data=f"{OF_RUN}{now[name].run}" + (f"/{path}" if path else ""))
        return file

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
        known = known_run(self.context, (), other.user, other.label) or self.known.get((other.user, other.label))
        held = "it has changes that are not committed" if other.held and known is None else "not begun"
        return predecessor_of(name, known, held)


def stems_of(paths: Sequence[str]) -> list[str]:
    """Return what files are called by others."""
    return [Path(path).stem for path in paths]
