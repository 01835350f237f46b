"""What finished trainings tell of how fast, and in how much memory, another one will train: and of how many it is told."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trainyard.clouds import gpus
from trainyard.recipes.fit.base import MemoryFactor
from trainyard.recipes.fit.work import ASSUMED
from trainyard.runs.records.measured import SIMULATED, MeasuredRun, MeasuredTraining

_NEWEST = 20
_MOST_SHARE = 1.0
"""Of a GPU's peak: more is no measurement."""
_DOUBTS = (1.1, 1.3, 1.6)
"""By so much the range is wider on both sides than what was seen: of this base on this type of GPU, of any on it, of any anywhere."""
_MEMORY_DOUBT = 1.03
_FACTORS = (0.4, 2.5)
"""By more than this no sound reckoning is wrong: such a figure is of something else."""


@dataclass(frozen=True, slots=True)
class UsedShare:
    """Share of a GPU's peak that a training uses, the least, the likely and the most, and how many finished runs tell it."""

    shares: tuple[float, float, float]
    runs: int = 0
    """0: it is assumed."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Finished runs, oldest first, of which the training's own figures are known."""

    measured: Sequence[MeasuredRun] = ()

    def share(self, base: str, gpu: str, *, experts: bool) -> UsedShare:
        """Return the share of its peak that a type of GPU will be used with: told by the runs that are most like it."""
        shares_of = [(run, share) for run, one in self._trainings() if one.reckoned.experts == experts and (share := _share(run, one))]
        likeness: tuple[Callable[[MeasuredRun], bool], ...] = (
            lambda run: run.workload.model == base and _type(run.workload.gpu) == gpu,
            lambda run: _type(run.workload.gpu) == gpu,
            lambda run: True,
        )
        for is_like, doubt in zip(likeness, _DOUBTS, strict=True):
            if shares := [share for run, share in shares_of if is_like(run)][-_NEWEST:]:
                most = min(_MOST_SHARE, max(shares) * doubt)
                return UsedShare((min(shares) / doubt, statistics.median(shares), most), len(shares))
        return UsedShare(ASSUMED[experts])

    def memory(self, base: str, kind: str) -> MemoryFactor | None:
        """Return by how much more memory trainings of this base and kind took than was reckoned; None: none has told it."""
        factors = [
            one.peak_bytes / one.reckoned.gpu_bytes
            for run, one in self._trainings()
            if run.workload.model == base and one.reckoned.kind == kind and one.peak_bytes and one.reckoned.gpu_bytes > 0
        ]
        sound = [factor for factor in factors if _FACTORS[0] <= factor <= _FACTORS[1]][-_NEWEST:]
        return MemoryFactor(max(sound) * _MEMORY_DOUBT, len(sound)) if sound else None

    def _trainings(self) -> Iterator[tuple[MeasuredRun, MeasuredTraining]]:
        for run in self.measured:
            if run.training is not None and not run.workload.cloud.endswith(SIMULATED):
                yield run, run.training


def _type(gpu: str) -> str | None:
    kind = next(iter(gpus.find(gpu)), None) if gpu else None
    return kind.name if kind else None


def _share(run: MeasuredRun, one: MeasuredTraining) -> float | None:
    peak = gpus.TFLOPS.get(_type(run.workload.gpu) or "")
    if peak is None or not math.isfinite(one.flops) or not 0 < one.seconds < math.inf:
        return None
    share = one.flops / one.seconds / (peak * 1e12)
    return share if 0 < share <= _MOST_SHARE else None
