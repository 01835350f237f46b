"""The calls of the API. Each is the road of the verb of its name: what a verb prints comes as events, what it exits with as an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.api.arguments import checked_arguments
from trainyard.api.follower import RunFollower, checked
from trainyard.api.work import OnEvent, Root, finish
from trainyard.clock import format_time
from trainyard.errors import Busy, Detached
from trainyard.yamlfile import Map, Node

if TYPE_CHECKING:  # each call loads what it needs: S3's libraries alone take half a second
    from trainyard.ledger.keys import StartKey
    from trainyard.ledger.queue import QueueEntry
    from trainyard.recipes.configfile import ConfigDocument
    from trainyard.runs.context import CommandContext
    from trainyard.runs.records.record import RunFolder
    from trainyard.runs.records.summary import RunSummary
    from trainyard.runs.verbs.keyed import KeyedRun
    from trainyard.runs.verbs.listing import ListedRun
    from trainyard.runs.verbs.show import RunPage
    from trainyard.runs.verbs.train import TrainRequest
    from trainyard.storage.download import Downloaded

PathLike = str | os.PathLike[str]
Setting = str | int | float | bool


@checked_arguments
def train(
    command: Sequence[str] | None = None, *, stack: str = "local", recipe: str | None = None, data: PathLike | None = None,
    config: PathLike | None = None, values: Mapping[str, object] | None = None, name: str | None = None, hours: float | None = None,
    budget: float | None = None, resume: int | None = None, deliver: str | None = None, init_from: str | None = None,
    since: str | None = None, from_file: PathLike | None = None, consent: bool = False, detach: bool = False, key: str | None = None,
    root: Root | None = None, on_event: OnEvent | None = None, check: bool = True,
) -> RunSummary:  # fmt: skip
    """Train on a stack, as ``invoke train`` does, and return the summary when the result is safe and the pod proven gone.

    ``command``: the words of a program of yours, which goes along with its code. ``values``: variables of the recipe, which win
    over ``config``. ``hours`` of the lease, ``budget`` in dollars, ``resume``: how often it goes on by itself after a lost pod.
    ``from_file``: an edited create request of the stack's cloud, as ``invoke render`` writes it: what it says is what is sent.
    ``consent``: your files may go to the stack's cloud. ``detach``: return as soon as the training runs and its pod can commit
    alone; the summary then has no ``ended_at``. ``key``: said again within a day, it gives the run that it gave first and begins no
    other, after whoever began it has died, too. ``root``: the repository, at which relative paths then begin; without it both
    are as for a command typed in the working directory. ``on_event`` is called in this thread.

    Raises RunFailed for a run that has not succeeded (``check=False``: returns its summary), UserError, RefusedError and
    NoCapacity before anything is rented, Detached when you leave (Ctrl-C, an exception in ``on_event``) while the training
    goes on, StillThere where something may still cost money, and the other errors of ``trainyard.errors``.
    """
    base = None if root is None else Path(root).resolve()

    def call(context: CommandContext) -> RunSummary:
        from trainyard.runs.verbs.auto import begin_training
        from trainyard.runs.verbs.keyed import start_key

        request = _request(base, command, stack, recipe, data, config, values, name, hours, budget, resume, deliver, from_file, consent)
        request = replace(request, detach=detach, init_from=init_from, since=since)
        start = start_key(context, key, "train", request)
        return _summary_of(context, begin_training(context, request, start, detach=detach), detach=detach)

    return checked(finish(root, call, on_event), check=check)


@checked_arguments
def resume(
    run: str, command: Sequence[str] | None = None, *, stack: str | None = None, values: Mapping[str, Setting] | None = None,
    hours: float | None = None, budget: float | None = None, consent: bool = False, key: str | None = None,
    root: Root | None = None, on_event: OnEvent | None = None, check: bool = True,
) -> RunSummary:  # fmt: skip
    """Go on with a run that has ended, from its newest checkpoint, as ``invoke resume`` does: a new attempt; returns its summary.

    ``stack``: where, if not where it ran; ``values``: variables that differ; ``budget``: dollars of the whole run. What is not said is as
    it was. Raises what train() does, UserError also where nothing is left to go on from.
    """

    def call(context: CommandContext) -> RunSummary:
        from trainyard.runs.verbs.keyed import start_key
        from trainyard.runs.verbs.resume import ResumeRequest, prepare
        from trainyard.runs.verbs.train import number_like

        lease, dollars = number_like("hours", hours, "hours"), number_like("budget", budget, "budget")
        request = ResumeRequest(run, stack, lease, dollars, _sets(values), consent, command)
        start = start_key(context, key, "resume", request)
        return _begun(context, lambda start: prepare(context, replace(request, key=start)), start)

    return checked(finish(root, call, on_event), check=check)


@checked_arguments
def rerun(
    run: str, command: Sequence[str] | None = None, *, stack: str | None = None, values: Mapping[str, Setting] | None = None,
    name: str | None = None, hours: float | None = None, budget: float | None = None, consent: bool = False, key: str | None = None,
    root: Root | None = None, on_event: OnEvent | None = None, check: bool = True,
) -> RunSummary:  # fmt: skip
    """Run an earlier run again as a new one, as ``invoke rerun`` does: its recipe, values, data and code as they were.

    ``stack``: where, if not where it ran; ``values``: variables that differ. Returns and raises what train() does, UserError also
    where something of it is gone.
    """

    def call(context: CommandContext) -> RunSummary:
        from trainyard.runs.verbs.keyed import start_key
        from trainyard.runs.verbs.rerun import RerunRequest, prepare
        from trainyard.runs.verbs.train import number_like

        lease, dollars = number_like("hours", hours, "hours"), number_like("budget", budget, "budget")
        request = RerunRequest(run, stack, _sets(values), name, lease, dollars, consent, command)
        start = start_key(context, key, "rerun", request)
        return _begun(context, lambda start: prepare(context, replace(request, key=start)), start)

    return checked(finish(root, call, on_event), check=check)


@checked_arguments
def submit(
    command: Sequence[str] | None = None, *, stack: str = "local", recipe: str | None = None, data: PathLike | None = None,
    config: PathLike | None = None, values: Mapping[str, object] | None = None, name: str | None = None, hours: float | None = None,
    budget: float | None = None, resume: int | None = None, deliver: str | None = None, from_file: PathLike | None = None,
    consent: bool = False, priority: int = 0, after: Sequence[str] = (), not_before: str | date | timedelta | None = None,
    hold: bool = False, key: str | None = None,
    root: Root | None = None, on_event: OnEvent | None = None,
) -> QueueEntry:  # fmt: skip
    """Put a run into the queue, as ``invoke submit`` does, and return its entry; a worker begins it when it is its turn.

    What is asked for is said as for train(). ``priority``: -10 to 10. ``after``: runs (one's own label, or user/label) that must have
    succeeded before. ``not_before``: a moment, how long from now, or a text as the verb takes it. ``hold``: until it is released.
    ``key``: said again within a day, it gives the entry that it gave first, as that stands then.

    Raises UserError for what is wrong with it, RefusedError where consent is not given, a limit could never allow it, its name is
    taken, or its key was said for something else.
    """
    base = None if root is None else Path(root).resolve()

    def call(context: CommandContext) -> QueueEntry:
        from trainyard.runs.queue.submit import submit as put
        from trainyard.runs.verbs.keyed import SUBMIT, start_key
        from trainyard.runs.verbs.listing import moment_of

        request = _request(base, command, stack, recipe, data, config, values, name, hours, budget, resume, deliver, from_file, consent)
        said, runs = _since(not_before), tuple(after)
        start = start_key(
            context, key, SUBMIT, request, {"--priority": priority, "--after": runs, "--not-before": said, "--hold": hold}
        )  # fmt: skip
        moment = moment_of(said, "not_before", ahead=True)
        return put(context, request, priority=priority, after=runs, not_before=moment, hold=hold, key=start)

    return finish(root, call, on_event)


@checked_arguments
def follow(run: str, *, root: Root | None = None, check: bool = True) -> RunFollower:
    """Come back to a run, as ``invoke attach`` does: follow it, finish its story, and give its events until its end.

    Where another process drives it, it is watched, and taken over when that process dies. Errors come while events are taken, or
    with ``result()``: UserError for a run that nobody knows, RunFailed, Detached, StillThere and the others.
    """

    def call(context: CommandContext) -> RunSummary:
        from trainyard.runs.verbs.attach import attach

        return attach(context, run)

    return RunFollower(root, call, check=check)


@checked_arguments
def cancel(
    run: str, *, now: bool = False, root: Root | None = None, on_event: OnEvent | None = None
) -> RunSummary | QueueEntry | None:  # fmt: skip
    """End a run, as ``invoke cancel`` does: it saves and stops, what it left is kept, its pod is ended. Returns its summary.

    One that waits in the queue is taken out, and its entry returned. ``now``: nothing is saved. None: another process drives the
    run; it has been told, and finishes the story. Raises UserError for one that has ended or that nobody knows, RefusedError where
    only another machine can end it, StillThere where its pod's end could not be proved.
    """

    def call(context: CommandContext) -> RunSummary | QueueEntry | None:
        from trainyard.runs.queue.changes import end

        return end(context, run, now=now)

    return finish(root, call, on_event)


@checked_arguments
def runs(
    *, stack: str | None = None, recipe: str | None = None, user: str | None = None, state: str | None = None,
    since: str | date | timedelta | None = None, limit: int | None = None, root: Root | None = None, on_event: OnEvent | None = None,
) -> tuple[ListedRun, ...]:  # fmt: skip
    """List runs, oldest first, as ``invoke runs --json`` does: of this repository, and of all that share its ledger or a bucket.

    ``state``: live, over, succeeded, failed, cancelled, stopped, started, ... ``since``: a moment, how long ago, or a text as the
    verb takes it. ``limit``: the newest so many. Raises UserError for what is none of these.
    """

    def call(context: CommandContext) -> tuple[ListedRun, ...]:
        from trainyard.runs.verbs.listing import asked_for, list_runs

        return tuple(list_runs(context, asked_for(stack, recipe, user, state, _since(since), limit)).runs)

    return finish(root, call, on_event)


@checked_arguments
def show(run: str, *, stack: str | None = None, root: Root | None = None, on_event: OnEvent | None = None) -> RunPage:
    """Return all that is known of one run, as ``invoke show RUN --json`` tells it; ``summary`` of it is what train() returns.

    ``stack``: whose bucket is asked for a run that is not known here. Raises UserError for one that is nowhere.
    """

    def call(context: CommandContext) -> RunPage:
        from trainyard.runs.verbs.show import show as look

        return look(context, run, stack)

    return finish(root, call, on_event)


@checked_arguments
def download(
    run: str, to: PathLike, *, stack: str | None = None, partial: bool = False, whole: bool = False, root: Root | None = None,
    on_event: OnEvent | None = None,
) -> Downloaded:  # fmt: skip
    """Fetch a result into a folder, as ``invoke download`` does, every file proven by its sha256; a file that is there is kept.

    Returns the ``paths`` and the proof: the sha256 of the manifest, None for what was taken without one (``partial``). ``whole``:
    the files beside the model, too. Raises UserError for a run without a result, StoreError where the bucket does not give it.
    """
    folder = Path(to) if root is None else Path(root) / to

    def call(context: CommandContext) -> Downloaded:
        from trainyard.runs.verbs.fetch import fetch

        return fetch(context, stack, run, folder, partial=partial, whole=whole)

    return finish(root, call, on_event)


def _request(
    base: Path | None, command: Sequence[str] | None, stack: str, recipe: str | None, data: PathLike | None, config: PathLike | None,
    values: Mapping[str, object] | None, name: str | None, hours: float | None, budget: float | None, resume: int | None,
    deliver: str | None, from_file: PathLike | None, consent: bool,
) -> TrainRequest:  # fmt: skip
    """Return what a new run is asked for with; raises UserError for what cannot be."""
    from trainyard.runs.verbs.train import TrainRequest, number_like, recipe_of

    file = None if config is None else (base or Path.cwd()) / config
    return TrainRequest(
        stack, recipe_of(recipe, file, command), _data(data, base), file, name=name, yes=consent, words=command,
        hours=number_like("hours", hours, "hours"), budget=number_like("budget", budget, "budget"),
        resume=None if resume is None else int(number_like("resume", resume, "resume") or 0), deliver=deliver,
        values=_document(values, base or Path.cwd()), base=base,
        request_file=None if from_file is None else (base or Path.cwd()) / from_file,
    )  # fmt: skip


def _begun(
    context: CommandContext, prepare: Callable[[StartKey | None], RunFolder], start: StartKey | None, *, detach: bool = False
) -> RunSummary:  # fmt: skip
    """Begin a run and drive it, or come back to the one of its key."""
    from trainyard.runs.verbs.beginning import begin_once

    return _summary_of(context, begin_once(context, prepare, start, detach=detach), detach=detach)


def _summary_of(context: CommandContext, run: RunSummary | KeyedRun, *, detach: bool) -> RunSummary:
    from trainyard.runs.verbs.keyed import KeyedRun

    return _of_elsewhere(context, run, detach=detach) if isinstance(run, KeyedRun) else run


def _sets(values: Mapping[str, Setting] | None) -> tuple[str, ...]:
    """Return what an earlier run's values are changed by, as ``--set`` takes it."""
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in (values or {}).items()}
    return tuple(f"{name}={text}" for name, text in texts.items())


def _of_elsewhere(context: CommandContext, known: KeyedRun, *, detach: bool) -> RunSummary:
    """Return the summary of a key's run that another checkout drives, as its bucket knows it; raises Busy or Detached before its end."""
    from trainyard.runs.verbs.keyed import exit_status_of, state_line
    from trainyard.runs.verbs.show import show as look

    assert known.elsewhere is not None
    status = exit_status_of(known.elsewhere, detach=detach)
    if (error := {Busy.exit_code: Busy, Detached.exit_code: Detached}.get(status)) is not None:
        raise error(state_line(known).removeprefix("run").strip())
    return replace(look(context, str(known.row.run), known.elsewhere.stack).summary, exit_status=status)


def _data(data: PathLike | None, base: Path | None) -> str | None:
    """Return what ``--data`` would be: an address as it is, a path from where paths begin."""
    from trainyard.recipes.data import OF_RUN

    text = None if data is None else os.fspath(data)
    return text if text is None or base is None or "://" in text or text.startswith(OF_RUN) else str(base / text)


def _document(values: Mapping[str, object] | None, base: Path) -> ConfigDocument | None:
    """Return values as what a config file would be."""
    from trainyard.recipes.configfile import ConfigDocument

    return None if values is None else ConfigDocument(_map(values), base, "values")


def _map(values: Mapping[str, object]) -> Map:
    document = Map()
    document.update({name: _node(value) for name, value in values.items()})
    return document


def _node(value: object) -> Node:
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, Mapping):
        return _map(value)
    if isinstance(value, (list, tuple)):
        return [_node(item) for item in value]
    if isinstance(value, (bool, int, float, type(None))):
        return value
    return str(value)


def _since(since: str | date | timedelta | None) -> str | None:
    if isinstance(since, timedelta):
        return f"{since.total_seconds() / 3600:f}h"
    if isinstance(since, datetime):
        return format_time(since.timestamp())
    return since.isoformat() if isinstance(since, date) else since
