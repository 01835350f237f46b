"""``--stack auto``: the stack on which a run is cheapest now, of those that can have it; the next one when that is sold out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainyard.clouds.protocol import Cloud
from trainyard.config import AUTO, stack_names
from trainyard.errors import CloudError, NoCapacity, RefusedError, UserError, in_short
from trainyard.ledger.keys import StartKey
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import needs_of
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import baselook, containers, fit, shape
from trainyard.runs.planning.estimate import allowed_offers, query_of
from trainyard.runs.planning.fit import PlannedTraining
from trainyard.runs.planning.history import measured_runs
from trainyard.runs.planning.market import CloudReply, PricedOffer, Question, ask, cheapest_first
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import RunSummary
from trainyard.runs.verbs.beginning import begin_once
from trainyard.runs.verbs.keyed import KeyedRun
from trainyard.runs.verbs.known import had_no_pod
from trainyard.runs.verbs.train import TrainRequest, prepare, values_of
from trainyard.settings import reader
from trainyard.settings.table import StackSettings
from trainyard.textfile import expanded


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOffers:
    """A stack and what its cloud offers for a run, the cheapest first."""

    stack: str
    offers: tuple[PricedOffer, ...]
    finish: float | None = None
    """What the whole training costs on the first one, where a stack leaves its GPUs to the run (``gpu: auto``)."""

    def __str__(self) -> str:
        best = self.offers[0]
        return f"{self.stack} ({best.machine} at ${best.per_hour:.2f}/h)"


def begin_training(
    context: CommandContext, request: TrainRequest, start: StartKey | None, *, detach: bool = False
) -> RunSummary | KeyedRun:  # fmt: skip
    """Begin a run where it was asked for and go through with it, as begin_once() does; on ``auto`` where it is cheapest.

    A stack that is sold out after all, before any pod of the run existed, is followed by the next one as the run's next attempt.
    """
    if request.stack != AUTO:
        return begin_once(context, lambda key: prepare(context, replace(request, key=key)), start, detach=detach)
    return _Choice(context, request).begin(start, detach=detach)


def settled(context: CommandContext, request: TrainRequest) -> TrainRequest:
    """Return a request with the stack that is cheapest now in place of ``auto``; where none has a pod now, with one that may later.

    Raises UserError where none could be asked.
    """
    if request.stack != AUTO:
        return request
    ranking = _ranking(context, _needs(context, request))
    if ranking.stacks:
        return _on(request, ranking.stacks[0])
    stack = next(iter(ranking.settings))
    context.ui.warn(f"{_nowhere(ranking).message}; what is judged now is judged by {stack}")
    return replace(request, stack=stack)


def _on(request: TrainRequest, chosen: StackOffers) -> TrainRequest:
    """Return a request for one stack, whose offers are tried from the cheapest on."""
    return replace(request, stack=chosen.stack, only_offers=tuple(one.offer.id for one in chosen.offers))


def renting(root: Path) -> list[str]:
    """Return the names of the stacks among which ``auto`` chooses: those that rent GPUs, or whose settings nobody can read."""
    return [stack for stack in stack_names(root) if _rents(root, stack)]


def _rents(root: Path, stack: str) -> bool:
    try:
        settings = reader.partly(root, stack, "gpu")
    except UserError:
        return True
    return settings.cloud != "local" and bool(settings.gpu)


@dataclass(slots=True)
class _Choice:
    """A request without a stack, and the stacks that are left for it."""

    context: CommandContext
    request: TrainRequest
    left: list[StackOffers] | None = field(default=None)
    name: str | None = None

    def begin(self, start: StartKey | None, *, detach: bool) -> RunSummary | KeyedRun:
        while True:
            run = begin_once(self.context, self._prepare, start, detach=detach)
            if isinstance(run, KeyedRun) or not self.left or run.ended_at is None:
                return run
            if not had_no_pod(self.context.folder(f"{run.user}/{run.label}/{run.attempt}").load()):
                return run
            self.name = run.label
            self.context.ui.warn(f"{run.stack} had no pod for it after all; the next is tried: {self.left[0]}")

    def _prepare(self, key: StartKey | None) -> RunFolder:
        if self.left is None:
            self.left = rank(self.context, self.request)
        while self.left:
            chosen = self.left.pop(0)
            request = replace(_on(self.request, chosen), key=key, name=self.name or self.request.name)
            try:
                return prepare(self.context, request)
            except NoCapacity as error:
                if not self.left:
                    raise
                self.context.ui.warn(f"{chosen.stack}: {error.message}; the next is tried: {self.left[0]}")
        raise NoCapacity("no stack has a pod for this run now")


@dataclass(frozen=True, slots=True)
class RunNeeds:
    """What decides where a run can be: its recipe, its values as a stack's settings make them, and its lease in hours."""

    recipe: Recipe
    values: Callable[[StackSettings, Cloud], Values]
    hours: float | None
    """None: as the stack's settings say."""
    data_bytes: int = 0
    """Of data on this machine; 0: nobody has asked how many they are."""


@dataclass(frozen=True, slots=True)
class _Ranking:
    stacks: list[StackOffers]
    settings: dict[str, StackSettings]
    """Of all stacks that could be asked."""
    silent: list[str]
    """Those of them of which nothing is known: no answer, a key that is refused."""


def rank(context: CommandContext, request: TrainRequest) -> list[StackOffers]:
    """Return the stacks that can have a run now, as cheapest() does."""
    return cheapest(context, _needs(context, request))


def cheapest(context: CommandContext, run: RunNeeds) -> list[StackOffers]:
    """Return the stacks that can have a run now, the cheapest first, having said what they cost and why others are left out.

    Asked are, at once, all stacks of the repository that rent GPUs and whose keys are set. Raises NoCapacity where none is left,
    CloudError where no cloud has answered, UserError where none could be asked.
    """
    ranking = _ranking(context, run)
    if not ranking.stacks:
        raise _nowhere(ranking)
    return ranking.stacks


def _nowhere(ranking: _Ranking) -> CloudError:
    silent = ", ".join(ranking.silent)
    if len(ranking.silent) == len(ranking.settings):
        said = f"whether a stack has a pod for this run is not known: nothing that can be used came from {silent}"
        return CloudError(said, hint="Why stands above; keys and clouds are tried by: invoke clouds --check")
    unknown = f"; whether {silent} would is not known" if silent else ""
    return NoCapacity(f"no stack has a pod for this run now{unknown}", hint="invoke offers shows what all clouds have.")


def _needs(context: CommandContext, request: TrainRequest) -> RunNeeds:
    if request.request_file is not None:
        raise UserError(
            "--from is a request to one cloud, and --stack auto looks at all",
            hint=f"Say whose it is: --stack and one of {', '.join(stack_names(context.places.root))}",
        )
    chosen = load_recipe(context.places.root, request.recipe)
    return RunNeeds(chosen, lambda settings, cloud: values_of(request, chosen, settings, cloud), request.hours, _bytes(request.data))


def _bytes(data: str | None) -> int:
    path = expanded(data) if data else None
    files = [] if path is None else [path] if path.is_file() else path.rglob("*") if path.is_dir() else []
    return sum(file.stat().st_size for file in files if file.is_file())


def _ranking(context: CommandContext, run: RunNeeds) -> _Ranking:
    settings, trainings, out = _settings(context, run)
    failed = {stack: shape.failed_lately(context.ledger(), each.cloud) for stack, each in settings.items()}
    stacks, silent = [], []
    for reply in ask({stack: _question(context, stack, each) for stack, each in settings.items()}):
        here = allowed_offers([one.offer for one in reply.offers], settings[reply.cloud])
        avoided = shape.avoidable(here, failed[reply.cloud])
        ids = {offer.id for offer in here if offer.id not in avoided}
        if ids:
            stacks.append(_stack_offers(reply, ids, trainings.get(reply.cloud)))
        else:
            out[reply.cloud] = reply.problem or "no offer that fits"
            silent += [reply.cloud] if reply.problem else []
    is_told = all(one.finish is not None for one in stacks)
    stacks.sort(key=lambda one: (one.finish or 0.0) if is_told else one.offers[0].dollars)
    for one in stacks:
        whole = f"about ${one.finish:.2f} for the whole training, " if is_told else ""
        context.ui.say(f"auto       {one}, {whole}${one.offers[0].dollars:.2f} for {one.offers[0].hours:g} h")
    for stack, why in out.items():
        context.ui.say(f"auto       not {stack}: {why}")
    if not settings:
        raise UserError("no stack of a cloud can be asked for this run", hint="Keys and stacks: invoke setup --all")
    return _Ranking(stacks, settings, silent)


def _stack_offers(reply: CloudReply, ids: set[str], training: PlannedTraining | None) -> StackOffers:
    """Return the offers that are left of a stack, in the order in which they are to be tried."""
    offers = [one for one in cheapest_first([reply]) if one.offer.id in ids]
    if training is not None:
        offers.sort(key=lambda one: fit.by_finish(one.gpu, one.per_hour, training))
    return StackOffers(stack=reply.cloud, offers=tuple(offers), finish=fit.finish(offers[0].gpu, offers[0].per_hour, training))


def _settings(context: CommandContext, run: RunNeeds) -> tuple[dict[str, StackSettings], dict[str, PlannedTraining], dict[str, str]]:
    """Return, of each stack that rents GPUs, the settings that a run would have there, its lease in ``hours``, and what it trains.

    The last of them only where one leaves its GPUs to the run; and why others are left out.
    """
    stacks, trainings, out = dict[str, StackSettings](), dict[str, PlannedTraining](), dict[str, str]()
    measured, is_auto = measured_runs(context.ledger()), False
    for stack in renting(context.places.root):
        try:
            settings, cloud = context.settings(stack), context.cloud(stack)
            settings, _ = shape.from_environment(settings, context.env, cloud.name)
            values = run.values(settings, cloud)
            baselook.look_up(context, values, settings)
            values = fit.as_rented(values, settings)
            needs = needs_of(run.recipe, values)
            if not cloud.simulated:
                fit.refuse(run.recipe, values, needs.get("vram_gb"), settings)
            shaped = shape.raised(settings, needs, cloud.name)
            shaped = shaped if run.hours is None else replace(shaped, hours=run.hours)
            containers.refuse(context, cloud, shaped, shaped.hours)
            if shaped.upload_consent == "never" and not cloud.simulated:
                raise RefusedError("its upload_consent is 'never'")
            stacks[stack] = shaped
            is_auto = is_auto or fit.is_auto(settings)
            if training := fit.training_of(values, run.data_bytes, measured):
                trainings[stack] = training
        except (UserError, RefusedError) as error:
            out[stack] = in_short(error)
    return stacks, trainings if is_auto else {}, out


def _question(context: CommandContext, stack: str, settings: StackSettings) -> Question:
    query = replace(query_of(settings), hours=settings.hours + settings.rescue_minutes / 60)
    return Question(opener=lambda: context.cloud(stack), query=query, hours=settings.hours)
