"""What a run that succeeded has taken, by the figures that tell how long a like one will: all who share the ledger learn of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from trainyard.jsontext import parse_json
from trainyard.recipes.summaries import Values
from trainyard.runs.records import stagecost
from trainyard.runs.records.home import REPORTS
from trainyard.runs.records.parts import ReckonedTraining
from trainyard.runs.records.progress import number_of, pace_of
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import cost, succeeded

MEASURED = "measured"
"""Kind of the event whose data are a MeasuredRun."""
SIMULATED = ", simulated"
"""What stands behind the name of a cloud that an emulator was."""
_STEPS, _EPOCHS = ("max_steps", "steps"), ("num_train_epochs", "epochs")
"""Variables that say how much is trained; the first above 0 counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is trained, on what, and how much of it: runs that differ in ``amount`` alone are like."""

    recipe: str
    model: str
    """The base model, or the command, or the script's name."""
    cloud: str
    gpu: str
    gpu_count: int
    unit: str
    amount: float

    def is_like(self, other: Workload) -> bool:
        """Tell whether nothing but the amount differs."""
        return self.makes_alike(other) and all(
            getattr(self, name) == getattr(other, name) for name in ("cloud", "gpu", "gpu_count", "unit")
        )

    def makes_alike(self, other: Workload) -> bool:
        """Tell whether their results are of a size, wherever and however long they train."""
        return (self.recipe, self.model) == (other.recipe, other.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTraining:
    """What its steps took, and its GPU's memory, beside what was reckoned of it."""

    flops: float
    """As reckoned for the tokens that it really had."""
    seconds: float
    """Of its steps alone: no download, no loading."""
    reckoned: ReckonedTraining
    peak_bytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """How long the training of a workload has taken, what was paid for beside it (boot, image, upload, end), and what came of it.

    Seconds, and bytes; its fields are a format that other versions read, too.
    """

    workload: Workload
    train: float
    aside: float
    result_bytes: int | None = None
    """The size of its result; None: it was measured before sizes were kept."""
    training: MeasuredTraining | None = None


def workload_of(
    recipe: str, values: Values, data_bytes: int, *, cloud: str, simulated: bool, gpu: str | None, gpu_count: int
) -> Workload:  # fmt: skip
    """Return what a run's variables and data make of it; an emulator's runs are like no real ones."""
    steps, epochs = _first(values, _STEPS), _first(values, _EPOCHS)
    unit, amount = ("steps", steps) if steps else ("epochs of a byte", epochs * data_bytes) if epochs and data_bytes else ("run", 1.0)
    command = values.get("command")
    script = PurePath(str(values.get("script") or "")).name  # where it lies is another place on each machine
    model = str(values.get("base_model") or (" ".join(command) if isinstance(command, list) and command else script))
    return Workload(
        recipe=recipe, model=model, cloud=cloud + SIMULATED if simulated else cloud, gpu=gpu or "", gpu_count=gpu_count if gpu else 0,
        unit=unit, amount=amount,
    )  # fmt: skip


def measure(record: RunRecord, folder: RunFolder) -> MeasuredRun | None:
    """Return what a run tells of like ones; None for one that did not succeed, did only a part, or ran nobody knows how long."""
    if not succeeded(record) or record.resumed_from is not None or record.ended is None:
        return None
    if record.job_seconds is None and any(pod.by_itself for pod in record.pods):
        return None  # it trained, committed and ended while nobody followed it: what was seen of it is not how long it took
    stages = {stage.name: stage.seconds for stage in stagecost.by_stage(record, cost(record), record.ended)}
    train = stages.pop(stagecost.TRAIN, 0.0)
    stages.pop(stagecost.IDLE, None)
    if train <= 0:
        return None
    workload = workload_of(
        record.recipe, record.values, record.data.bytes, cloud=record.cloud, simulated=record.pod.simulated, gpu=record.pod.gpu,
        gpu_count=record.pod.gpu_count or 0,
    )  # fmt: skip
    size = record.result.bytes if record.result else None
    return MeasuredRun(
        workload=workload, train=train, aside=round(sum(stages.values()), 3), result_bytes=size, training=_training(record, folder)
    )  # fmt: skip


def _training(record: RunRecord, folder: RunFolder) -> MeasuredTraining | None:
    """Return what the training itself tells of its steps and memory; None where it tells nothing that could be used."""
    if record.reckoned is None:
        return None
    try:
        report, metrics = parse_json((folder.path / REPORTS[0]).read_bytes()), folder.metrics.read_bytes()
    except (OSError, ValueError):
        return None
    pace, report = pace_of(metrics), report if isinstance(report, dict) else {}
    tokens, steps, peak = (number_of(report.get(name)) for name in ("tokens", "steps", "peak_gpu_bytes"))
    if not pace or not tokens or not steps:
        return None
    flops = tokens * record.reckoned.flops_per_token / (number_of(report.get("processes")) or 1)  # of each GPU
    return MeasuredTraining(flops=flops, seconds=round(pace * steps, 3), reckoned=record.reckoned, peak_bytes=peak or None)


def _first(values: Values, names: tuple[str, ...]) -> float:
    said = (value for value in map(values.get, names) if isinstance(value, (int, float)) and not isinstance(value, bool))
    return next((float(value) for value in said if 0 < value < 1e300), 0.0)
