"""Sweeps as the ledger's events tell them: an event a trial, written once. With the runs' other events they reach every machine.

Of two processes that begin the same trial at once one writes its event, and both go on with what that says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainyard.errors import UserError
from trainyard.ledger.rows import LedgerEvent
from trainyard.ledger.runid import RunId
from trainyard.pod.files import printable
from trainyard.runs.records import codec
from trainyard.runs.records.identity import shown
from trainyard.runs.records.progress import Curve
from trainyard.runs.sweeps.sampling import Parameters, Sampler
from trainyard.runs.sweeps.space import Dimension

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger

_TRIAL, _FIGURES, _PRUNED, _REFUSED, _ENDED = "trial", "trial figures", "trial pruned", "trial refused", "sweep ended"
"""Kinds of the ledger's events. The last one is written with the first trial's run."""
_POINTS = 200
"""Points of a curve that are kept in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepDefinition:
    """What a sweep is: what is varied, how its trials are chosen, and what they are judged by."""

    stack: str
    recipe: str
    dimensions: tuple[Dimension, ...]
    sampler: Sampler
    trials: int
    seed: int
    objective: str
    prune: bool
    parallel: int | None
    """Trials at once; None: as many as the queue lets."""
    budget: float | None
    """Dollars of all trials together."""
    priority: int
    """Of its trials in the queue."""
    sets: tuple[str, ...]
    words: tuple[str, ...] | None
    """What was set and what stood behind ``--``, of that what has a ``{NAME}`` in it: it is filled in for each trial."""
    request: str
    """sha256 of what else was asked for and of the code: trials of another program could not be held against these."""

    @property
    def digest(self) -> str:
        """What tells whether two commands ask for the same: all of it but when and how many at once."""
        facts = dataclasses.asdict(dataclasses.replace(self, parallel=None, priority=0))
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Why a trial was ended before its time: what it had come to, and at which step."""

    step: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTrial:
    """One trial; its run is ``user/label``."""

    number: int
    user: str
    label: str
    parameters: Parameters
    pruned: Pruned | None = None
    refused: str | None = None
    """Why it was not submitted; None: it was, or will be."""
    curve: Curve = ()
    """Its objective's figure, as it was written down when the run was over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One sweep with the trials that were begun, by number. ``begun`` is epoch seconds."""

    user: str
    name: str
    definition: SweepDefinition
    begun: float
    machine: str
    trials: tuple[SweepTrial, ...]
    ended: bool
    """Nothing is begun for it any more: its trials are over, or a person has cancelled the rest."""

    def label(self, number: int) -> str:
        """Return what the run of a trial is called."""
        return f"{self.name}-{number}"

    def __str__(self) -> str:
        return f"{self.user}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _TrialFacts:
    sweep: str
    number: int
    parameters: dict[str, str]
    definition: SweepDefinition | None = None


@dataclass(slots=True)
class _Draft:
    begun: float = 0.0
    machine: str = ""
    definition: SweepDefinition | None = None
    trials: dict[int, SweepTrial] = field(default_factory=dict)


def add_trial(ledger: Ledger, sweep: Sweep, number: int, parameters: Parameters) -> SweepTrial:
    """Write down that a trial is begun; return it as it stands, which is another's where that one was first."""
    run = RunId(sweep.user, sweep.label(number), 1)
    facts = _TrialFacts(
        sweep=sweep.name, number=number, parameters=parameters, definition=sweep.definition if number == 1 else None
    )  # fmt: skip
    identity = hashlib.md5(f"{sweep.user}/{sweep.name}/{number}".encode(), usedforsecurity=False).hexdigest()
    event = LedgerEvent(time.time(), run, _TRIAL, dataclasses.asdict(facts), socket.gethostname(), identity)
    ledger.take([event], mirrored=False)
    return _trials(ledger.events(run, kind=_TRIAL))[sweep.user, sweep.name].trials[number]


def note_figures(ledger: Ledger, trial: SweepTrial, curve: Curve) -> None:
    """Write down what a trial that is over has come to."""
    ledger.add(RunId(trial.user, trial.label, 1), _FIGURES, curve=_thinned(curve))


def note_pruned(ledger: Ledger, trial: SweepTrial, pruned: Pruned) -> None:
    """Write down that a trial is ended before its time."""
    ledger.add(RunId(trial.user, trial.label, 1), _PRUNED, **dataclasses.asdict(pruned))


def note_refused(ledger: Ledger, trial: SweepTrial, why: str) -> None:
    """Write down that a trial cannot be: no run of it is begun."""
    ledger.add(RunId(trial.user, trial.label, 1), _REFUSED, why=why)


def note_ended(ledger: Ledger, sweep: Sweep, why: Literal["over", "cancelled"]) -> None:
    """Write down that nothing more is begun for a sweep."""
    ledger.add(RunId(sweep.user, sweep.label(1), 1), _ENDED, why=why)


def all_sweeps(ledger: Ledger) -> list[Sweep]:
    """Return every sweep that the ledger knows, oldest first."""
    drafts = _trials(ledger.events(kind=_TRIAL))
    if not drafts:
        return []
    curves, pruned = _figures(ledger.events(kind=_FIGURES)), _pruned(ledger.events(kind=_PRUNED))
    refused = {(event.run.user, event.run.label): printable(str(event.data.get("why", ""))) for event in ledger.events(kind=_REFUSED)}
    ended = {event.run for event in ledger.events(kind=_ENDED)}
    sweeps = []
    for (user, name), draft in drafts.items():
        if draft.definition is None:
            continue  # its first trial is not known here yet
        trials = (
            dataclasses.replace(trial, curve=curves.get(run, ()), pruned=pruned.get(run), refused=refused.get(run))
            for run, trial in (((user, one.label), one) for _, one in sorted(draft.trials.items()))
        )
        sweep = Sweep(
            user=user, name=name, definition=draft.definition, begun=draft.begun, machine=draft.machine, trials=tuple(trials),
            ended=RunId(user, f"{name}-1", 1) in ended,
        )  # fmt: skip
        sweeps.append(sweep)
    return sorted(sweeps, key=lambda sweep: sweep.begun)


def sweep_of(ledger: Ledger, group: str) -> Sweep | None:
    """Return the sweep that a group of the queue is, None where it is none."""
    return next((sweep for sweep in all_sweeps(ledger) if str(sweep) == group), None)


def find_sweep(ledger: Ledger, reference: str) -> Sweep:
    """Return the sweep that a person means by NAME or USER/NAME; raises UserError where none or several fit."""
    user, _, name = reference.strip("/").rpartition("/")
    known = all_sweeps(ledger)
    fitting = [sweep for sweep in known if sweep.name == name and user in ("", sweep.user)]
    if len(fitting) > 1:
        raise UserError(f"'{reference}' is a sweep of {', '.join(sweep.user for sweep in fitting)}: say {fitting[0]}")
    if not fitting:
        names = ", ".join(str(sweep) for sweep in known[-8:])
        raise UserError(f"there is no sweep {shown(reference)}", hint=f"Sweeps: {names or 'none yet'}.")
    return fitting[0]


def _trials(events: Iterable[LedgerEvent]) -> Mapping[tuple[str, str], _Draft]:
    drafts: dict[tuple[str, str], _Draft] = {}
    for event in events:
        with contextlib.suppress(ValueError):  # what another version has written, or no version of ours
            facts = codec.read(_TrialFacts, event.data)
            if event.run.label != f"{facts.sweep}-{facts.number}":
                continue
            draft = drafts.setdefault((event.run.user, facts.sweep), _Draft())
            parameters = {printable(name): printable(value) for name, value in facts.parameters.items()}
            draft.trials[facts.number] = SweepTrial(
                number=facts.number, user=event.run.user, label=event.run.label, parameters=parameters
            )  # fmt: skip
            if facts.definition is not None:
                draft.definition, draft.begun, draft.machine = facts.definition, event.time, event.machine
    return drafts


def _figures(events: Iterable[LedgerEvent]) -> Mapping[tuple[str, str], Curve]:
    curves: dict[tuple[str, str], Curve] = {}
    for event in events:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            curves[event.run.user, event.run.label] = tuple((int(step), float(value)) for step, value in event.data["curve"])
    return curves


def _pruned(events: Iterable[LedgerEvent]) -> Mapping[tuple[str, str], Pruned]:
    pruned: dict[tuple[str, str], Pruned] = {}
    for event in events:
        with contextlib.suppress(ValueError):
            pruned[event.run.user, event.run.label] = codec.read(Pruned, event.data)
    return pruned


def _thinned(curve: Curve) -> list[tuple[int, float]]:
    """Return so many points of a curve that the ledger stays small: first and last are among them, and its least and greatest value."""
    every = max(1, len(curve) // _POINTS)
    kept = {0, len(curve) - 1} | set(range(0, len(curve), every))
    if curve:
        values = [value for _, value in curve]
        kept |= {values.index(min(values)), values.index(max(values))}
    return [curve[at] for at in sorted(kept) if 0 <= at < len(curve)]
