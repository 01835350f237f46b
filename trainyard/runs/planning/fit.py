"""Which GPUs a run fits on, how long it takes there and what that costs, before any is rented."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainyard.clouds import gpus
from trainyard.clouds.protocol import Offer
from trainyard.errors import UserError
from trainyard.recipes.basemodel import MADE
from trainyard.recipes.contract import Recipe
from trainyard.recipes.fit import memory, work
from trainyard.recipes.fit.base import look
from trainyard.recipes.fit.memory import Method
from trainyard.recipes.fit.shapes import ModelShape
from trainyard.recipes.fit.ways import ways
from trainyard.recipes.fit.work import Duration
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import NEEDS
from trainyard.runs.planning.calibration import Calibration
from trainyard.runs.records.measured import MeasuredRun
from trainyard.runs.records.parts import ReckonedTraining
from trainyard.settings.table import StackSettings

AUTO = "auto"
"""As the setting ``gpu``: every type with enough memory."""
ASIDE_HOURS = 0.25
"""Boot, image, packages and download, where no like run tells."""
_BYTES_A_TOKEN = 4.0
_LARGEST_BATCH = 1e12


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """What is trained, and over how many tokens; 0: data that only the pod sees. Looks at rows held back count as what they take."""

    base: str
    shape: ModelShape
    method: Method
    tokens: float
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def has_experts(self) -> bool:
        """Tell whether tokens meet only some of its parameters."""
        return self.shape.experts > 0

    def hours(self, seconds: float) -> float:
        """Return the hours for which a pod is paid that trains so many seconds."""
        return seconds / 3600 + ASIDE_HOURS

    def on(self, gpu: str | None) -> Duration | None:
        """Return how long it takes on a type of GPU; None where its speed is not known here."""
        kind = next(iter(gpus.find(gpu or "")), None)
        peak = gpus.TFLOPS.get(kind.name) if kind else None
        if kind is None or peak is None or not self.tokens:
            return None
        # So many GPUs train as the run says, however many its pod has.
        used = self.calibration.share(self.base, kind.name, experts=self.has_experts)
        return work.duration(work.flops(self.shape, self.method, self.tokens) / self.method.gpus, peak, used.shares, used.runs)

    @property
    def reckoned(self) -> ReckonedTraining:
        """What is kept with a run, to be held against what it takes."""
        return ReckonedTraining(
            flops_per_token=work.flops(self.shape, self.method, 1.0), gpu_bytes=memory.memory(self.shape, self.method).allocated,
            experts=self.has_experts, kind=self.method.kind,
        )  # fmt: skip


def as_rented(values: Values, settings: StackSettings) -> Values:
    """Return the values with as many GPUs as train: where the run leaves them open, all that its pod has (templates/common/launch.py)."""
    by_one = values.get("strategy", "none") == "none" or values.get("backend") == "unsloth" or values.get("device") == "cpu"
    is_open = not by_one and values.get("gpus") == 0 and settings.gpu and settings.gpu_count > 1
    return {**values, "gpus": settings.gpu_count} if is_open else values


def declared(needs: Values, gpu: str | None, count: int) -> Duration | None:
    """Return how long a run takes whose recipe says how much arithmetic it is; None where it says none, or the GPU's speed is not known."""
    kind = next(iter(gpus.find(gpu or "")), None)
    peak, operations, shares = gpus.TFLOPS.get(kind.name) if kind else None, needs.get("flops"), needs.get("peak_shares")
    if peak is None or not isinstance(operations, int | float) or not operations or not isinstance(shares, list):
        return None
    low, likely, high = (float(share) for share in shares)
    return work.duration(operations / count, peak, (low, likely, high))


def training_of(values: Values, data_bytes: int, measured: Sequence[MeasuredRun] = (), rows: int = 0) -> PlannedTraining | None:
    """Return what a run trains, as finished runs tell of it; None where its base is none or its size is not known. ``rows``: 0 for unknown.

    What is known of memory and time is known of decoders: other recipes say themselves what they need.
    """
    name = values.get("base_model")
    if not isinstance(name, str) or name in MADE or "max_seq_length" not in values or (shape := look(name).shape) is None:
        return None
    method = Method.of(values)
    return PlannedTraining(name, shape, method, _tokens(values, method, data_bytes, rows), Calibration(measured))


def reckoned_of(values: Values, settings: StackSettings) -> ReckonedTraining | None:
    """Return what is kept with a run; None where nothing can be reckoned."""
    training = training_of(as_rented(values, settings), 0)
    return training.reckoned if training else None


def _tokens(values: Values, method: Method, data_bytes: int, rows: int) -> float:
    """Return the tokens that are learnt, and as much as the looks at the rows held back take beside."""
    asked, at_once, gathered = (values.get(name) for name in ("max_steps", "effective_batch_size", "gradient_accumulation_steps"))
    a_step = at_once if isinstance(at_once, int) else method.batch * (gathered if isinstance(gathered, int) else 1) * method.gpus
    known, epochs, held = data_bytes / _BYTES_A_TOKEN, values.get("num_train_epochs"), values.get("eval_fraction")
    share = float(held) if isinstance(held, int | float) else 0.0
    if isinstance(asked, int) and asked > 0:
        steps, learnt = float(asked), float(asked * a_step * method.length)
    else:
        times = (1 - share) * (float(epochs) if isinstance(epochs, int | float) else 1.0)
        learnt = known * times
        steps = rows * times / a_step if rows else learnt / (a_step * method.length)
    every, file = values.get("eval_steps"), values.get("eval_file")
    is_here = isinstance(file, str) and Path(file).is_file()
    looked_at = Path(str(file)).stat().st_size / _BYTES_A_TOKEN if is_here else known * share
    looks = steps // every if isinstance(every, int) and every > 0 else 0.0
    return min(_LARGEST_BATCH, learnt + looks * looked_at / work.passes(method))


def is_auto(settings: StackSettings) -> bool:
    """Tell whether a stack leaves the type of its GPUs to the run."""
    return tuple(settings.gpu) == (AUTO,)


def largest(names: Iterable[str]) -> float | None:
    """Return the memory (GB) of the largest of these types; None where one of them is not known here."""
    kinds = [gpus.find(name) for name in names]
    return max((kind.vram_gb for some in kinds for kind in some), default=None) if all(kinds) else None


def refuse(recipe: Recipe, values: Values, needed: object, settings: StackSettings) -> None:
    """Raise UserError for a run that fits on no GPU that its stack may rent, with what would make it fit.

    Nothing is refused that a person has said the needs of, nor where a GPU's memory is not known.
    """
    if not settings.gpu or not isinstance(needed, int | float) or any(key.startswith(NEEDS) for key in values):
        return
    auto = is_auto(settings)
    most = float(max(kind.vram_gb for kind in gpus.GPUS)) if auto else largest(settings.gpu)
    if most is None or gpus.has_memory(most, needed):
        return
    where = "the largest GPU has" if auto else f"{' and '.join(settings.gpu)} have" if len(settings.gpu) > 1 else f"{settings.gpu[0]} has"
    named = [f"{way} ({way.vram_gb:g} GB)" for way in ways(recipe, values, most)]
    fitting = [kind.name for kind in sorted(gpus.GPUS, key=lambda kind: kind.vram_gb) if gpus.has_memory(kind.vram_gb, needed)]
    named += [f"gpu: {fitting[0]}, or auto"] if fitting else []
    hint = f"What would fit: {'; or '.join(named)}." if named else "Nothing known here makes it fit on one GPU: take a smaller base."
    who, is_known = _who_needs(recipe, values)
    hint = hint if is_known else f"{hint} Or say what you know: --set {NEEDS}vram_gb=..."
    raise UserError(f"{who} {needed:g} GB of GPU memory for this training, and {where} {most:g} GB", hint=hint)


def _who_needs(recipe: Recipe, values: Values) -> tuple[str, bool]:
    """Return what needs memory, in words, and whether that is known or rests on a guess."""
    name = values.get("base_model")
    if not isinstance(name, str) or "max_seq_length" not in values:
        return f"recipe {recipe.name}, with these values, needs", True
    shape = look(name).shape
    if shape is None:
        return f"{name} is of a size that is not known, taken to need", False
    return (f"{name} needs", True) if shape.exact else (f"{name} needs, as far as its name tells,", False)


def finish(gpu: str | None, per_hour: float, training: PlannedTraining | None) -> float | None:
    """Return what a whole training costs (dollars) on a type of GPU at a price an hour; None where nobody can tell."""
    taken = training.on(gpu) if training else None
    return per_hour * training.hours(taken.likely) if training and taken else None


def by_finish(gpu: str | None, per_hour: float, training: PlannedTraining | None) -> tuple[bool, float]:
    """Return what sorts by what the whole training costs; those of unknown speed come last, by their price."""
    cost = finish(gpu, per_hour, training)
    return cost is None, per_hour if cost is None else cost


def cheapest_finish(offers: Sequence[Offer], training: PlannedTraining | None) -> list[Offer]:
    """Return offers by what the whole training costs on them."""
    return sorted(offers, key=lambda offer: by_finish(offer.gpu, offer.price_per_hour, training))


def chosen(settings: StackSettings, offers: Sequence[Offer], training: PlannedTraining | None) -> StackSettings:
    """Return the settings with the offers in the order in which they are to be tried, where ``gpu: auto`` leaves it to us."""
    return replace(settings, only_offers=tuple(offer.id for offer in cheapest_finish(offers, training)))
