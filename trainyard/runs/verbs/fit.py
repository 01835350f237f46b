"""`invoke fit`: what a training of a base needs, and where it fits, how long it takes there and what it costs; nothing is rented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trainyard.clouds import gpus
from trainyard.errors import UserError
from trainyard.recipes import basecheck, basemodel, data
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.fit import memory, work
from trainyard.recipes.fit.base import Base, MemoryFactor, factor_of, look
from trainyard.recipes.fit.memory import GpuMemory
from trainyard.recipes.fit.ways import FittingChange, ways
from trainyard.recipes.fit.work import told_by
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import needs_of, resolve
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.baselook import look_up
from trainyard.runs.planning.fit import PlannedTraining, finish, training_of
from trainyard.runs.planning.history import measured_runs
from trainyard.runs.planning.market import PricedOffer
from trainyard.runs.records.progress import duration
from trainyard.runs.verbs.offers import Market, OfferSearch, search_offers, unknowns

_SHOWN = 12
_UNSEEN = "how many tokens is not known: only the pod sees the data"
_COMMON = ("RTX 4090", "RTX 5090", "L40S", "A100 SXM", "H100 SXM", "B200")
"""Types whose times are shown where no cloud was asked, or has an offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """What is to be reckoned."""

    base: str
    recipe: str = "lora"
    config: Path | None = None
    sets: tuple[str, ...] = ()
    data: str | None = None
    ask: bool = True
    """Ask clouds what they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRow:
    """A GPU on which it fits."""

    cloud: str
    gpu: str
    vram_gb: int | None
    per_hour: float | None
    seconds: tuple[float, float, float] | None
    """Of training: least, likely, most; None: the GPU's speed, or how much is trained, is not known."""
    runs: int
    """Finished runs that tell it; 0: it is assumed."""
    dollars: float | None
    """Of the likely time and what comes before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a training of a base needs, and where it is to be had."""

    base: Base
    training: PlannedTraining
    memory: GpuMemory
    vram_gb: float
    disk_gb: float
    trained: int
    is_asked: bool
    """A person has said how much is trained: data, or steps."""
    measured: MemoryFactor | None
    """What finished runs tell of its memory."""
    rows: tuple[FitRow, ...]
    market: Market | None
    ways: tuple[FittingChange, ...]
    """How it would fit on a GPU of 24 GB, where it does not."""

    def as_json(self) -> dict[str, Any]:
        """Return it for a program."""
        shape = self.training.shape
        parts = {one.name: round(getattr(self.memory, one.name)) for one in fields(self.memory)}
        return {
            "base": self.base.name, "family": shape.family, "exact": shape.exact, "source": self.base.source,
            "parameters": shape.total, "active": shape.active, "trained": self.trained, "tokens": round(self.training.tokens),
            "memory": parts, "measured": asdict(self.measured) if self.measured else None, "vram_gb": self.vram_gb, "disk_gb": self.disk_gb,
            "rows": [{one.name: getattr(row, one.name) for one in fields(row)} for row in self.rows],
            "ways": [{"sets": str(way), "vram_gb": way.vram_gb} for way in self.ways],
        }  # fmt: skip


def fit(context: CommandContext, request: FitRequest) -> Fit:
    """Reckon a training through; raises UserError for values that cannot be, and for a base of which nothing is known."""
    recipe = load_recipe(context.places.root, request.recipe)
    if recipe.form != "answer":
        raise UserError(f"how much memory recipe {recipe.name} needs is not reckoned: it says so itself, see docs/recipes/{recipe.name}.md")
    if recipe.variable("base_model") is None:
        raise UserError(f"recipe {recipe.name} trains no base", hint="Say --recipe and one that does, like lora.")
    values = resolve(recipe, request.config, (*request.sets, f"base_model={request.base}"), {"device": "gpu"})
    look_up(context, values)
    basecheck.refuse(values, on_this_machine=True, volume=False)
    size, rows = _data(request, recipe, values)
    training = training_of(values, size, measured_runs(context.ledger()), rows)
    base = look(str(values["base_model"]))
    if training is None:
        hint = "Ask again where the Hub can be reached, or name a folder with its config.json."
        raise UserError(f"nothing is known here of the size of {base.name}", hint=None if base.name in basemodel.MADE else hint)
    needs = needs_of(recipe, values)
    vram, disk = (float(str(needs.get(key) or 0)) for key in ("vram_gb", "disk_gb"))
    market = search_offers(context, OfferSearch(vram_gb=vram, disk_gb=max(1, round(disk)))) if request.ask else None
    return Fit(
        base=base, training=training, memory=memory.memory(training.shape, training.method), vram_gb=vram, disk_gb=disk,
        trained=memory.trained(training.shape, training.method),
        is_asked=bool(request.data) or _steps(values) > 0, measured=factor_of(base.name, values),
        rows=tuple(_rows(training, vram, market)), market=market,
        ways=tuple(ways(recipe, values, 24)) if vram > 24 else (),
    )  # fmt: skip


def _data(request: FitRequest, recipe: Recipe, values: Values) -> tuple[int, int]:
    """Return bytes and rows of the data; where none are named of the recipe's sample, which may be of another form than values ask for."""
    if request.data is None and recipe.sample is not None:
        return (recipe.folder / recipe.sample).stat().st_size, 0
    summary = data.inspect(request.data, recipe, values=values).summary()
    return summary.bytes, summary.rows


def _steps(values: Values) -> int:
    steps = values.get("max_steps")
    return steps if isinstance(steps, int) else 0


def _rows(training: PlannedTraining, vram: float, market: Market | None) -> list[FitRow]:
    rented = [_rented(training, one) for one in (market.offers if market else ()) if one.gpu]
    if rented:
        return sorted(rented, key=lambda row: (row.dollars is None, row.dollars or row.per_hour or 0.0))
    kinds = [kind for kind in gpus.GPUS if kind.name in _COMMON and gpus.has_memory(kind.vram_gb, vram)]
    return [FitRow(cloud="-", gpu=kind.name, vram_gb=kind.vram_gb, per_hour=None, seconds=_seconds(training, kind.name), dollars=None,
                   runs=_runs(training, kind.name)) for kind in kinds]  # fmt: skip


def _rented(training: PlannedTraining, one: PricedOffer) -> FitRow:
    seconds = _seconds(training, one.gpu)
    return FitRow(
        cloud=one.cloud, gpu=one.machine, vram_gb=one.vram_gb, per_hour=one.per_hour, seconds=seconds,
        dollars=finish(one.gpu, one.per_hour, training), runs=_runs(training, one.gpu),
    )  # fmt: skip


def _seconds(training: PlannedTraining, gpu: str | None) -> tuple[float, float, float] | None:
    taken = training.on(gpu)
    return (taken.low, taken.likely, taken.high) if taken else None


def _runs(training: PlannedTraining, gpu: str | None) -> int:
    taken = training.on(gpu)
    return taken.runs if taken else 0


def lines(result: Fit) -> Iterator[str]:
    """Yield it for a person, on 80 columns."""
    shape, base = result.training.shape, result.base
    counted = "exact" if shape.exact else "reckoned as a Llama" if base.config else "a guess from its size"
    active = f", {shape.active / 1e9:.3f} active" if shape.experts else ""
    yield f"{base.name}: {shape.total / 1e9:.3f} billion parameters{active} ({counted}; {base.source})"
    tokens = f"about {result.training.tokens:,.0f} tokens, {_work(result):.3g} FLOPs" if result.training.tokens else _UNSEEN
    yield f"trained: {result.trained / 1e6:,.1f} million; {tokens}"
    if not result.is_asked:
        yield "tokens: of the recipe's sample; --data FILE or --set max_steps=... tells yours"
    yield f"{'GPU memory':<14} {'GB':>7}"
    for one in fields(result.memory):
        yield f"  {one.name:<12} {getattr(result.memory, one.name) / memory.GB:>7.2f}"
    if measured := result.measured:
        yield f"  {'measured':<12} {'x' + format(measured.factor, '.2f'):>7}  (by {told_by(measured.runs)} of this base)"
    needs = f"needs.vram_gb {result.vram_gb:g}, needs.disk_gb {result.disk_gb:g}"
    yield f"  {'together':<12} {result.memory.total / memory.GB:>7.2f}  ({needs})"
    yield from _table(result)
    for way in result.ways:
        yield f"on 24 GB: {way} ({way.vram_gb:g} GB)"
    if result.market:
        yield from unknowns(result.market)


def _table(result: Fit) -> Iterator[str]:
    if not result.rows:
        yield "it fits on no GPU that is known here"
        return
    yield f"{'cloud':<11} {'GPU':<24} {'GB':>4} {'$/h':>7} {'training':>20} {'$':>8}"
    for row in result.rows[:_SHOWN]:
        price, cost = (f"{value:.2f}" if value is not None else "?" for value in (row.per_hour, row.dollars))
        taken = f"{duration(row.seconds[0])} to {duration(row.seconds[2])}" if row.seconds else "not known"
        yield f"{row.cloud:<11} {row.gpu:<24} {row.vram_gb or '?':>4} {price:>7} {taken:>20} {cost:>8}"
    if len(result.rows) > _SHOWN:
        yield f"{len(result.rows) - _SHOWN:,} dearer ones: --json shows all"
    runs = max((row.runs for row in result.rows), default=0)
    by = f"calibrated by up to {told_by(runs)}" if runs else "assumed, from the GPUs' peaks; a finished run tells more"
    yield f"times: {by} (docs/fit.md)"


def _work(result: Fit) -> float:
    return work.flops(result.training.shape, result.training.method, result.training.tokens)
