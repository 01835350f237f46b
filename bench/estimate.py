"""How near the estimate of a run comes to the cloud's bill: varied runs on the emulated RunPod, whose clock is turned by hand.

Each run is estimated as ``invoke train`` does it, from the offers, the disks and the like runs of the ledger so far; then its pod is
rented from the emulator, lives as long as the run is drawn to take, ends, and its bill is asked for. No training runs and no pod
starts: the emulator's clock stands in for both. A run that no like one precedes is billed and learnt from, not counted.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import Offer, PodSpec
from trainyard.clouds.runpod import RunPodCloud
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.runid import RunId
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.runs.planning.estimate import Estimate, estimate
from trainyard.runs.planning.history import expect, measured_runs
from trainyard.runs.records.measured import MEASURED, MeasuredRun, Workload
from trainyard.settings.table import StackSettings

RUNS = 30
"""So many estimates are held against a bill."""
TARGET = 0.10
_PACE = {"L4": 3.0, "RTX 4090": 1.4, "A100 80GB": 1.0, "H100": 0.6}
"""Seconds of a step of the smaller model on a GPU."""
_MODELS = {"small": (1.0, 40.0), "large": (2.5, 110.0)}
"""How much slower a model steps, and the seconds until its first step."""
_VOLUME = {"id": "vol1", "name": "data", "size": 200, "dataCenter": "EU-RO-1", "type": "STANDARD"}


@dataclass(frozen=True, slots=True)
class DrawnRun:
    """What a run is, and how long it will really take: seconds of training, and of what is paid for beside it."""

    workload: Workload
    settings: StackSettings
    train: float
    aside: float


@dataclass(frozen=True, slots=True)
class BilledRun:
    """A run's estimate and its bill in dollars."""

    drawn: DrawnRun
    estimate: Estimate
    billed: float

    @property
    def error(self) -> float:
        """How far the likely cost was off, as a share of the bill; nothing where none was told."""
        return self.estimate.likely[1] / self.billed - 1 if self.estimate.likely else 0.0


def draw(random_: random.Random) -> DrawnRun:
    """Draw a run: GPU, model, steps, disk, volume, interruptible or not, and what chance makes of its times."""
    gpu, model = random_.choice(list(_PACE)), random_.choice(list(_MODELS))
    slower, load = _MODELS[model]
    steps, spot = random_.randrange(1000, 4001, 100), random_.random() < 0.3
    volume = "vol1" if gpu in ("L4", "RTX 4090") and not spot and random_.random() < 0.5 else None
    workload = Workload(recipe="lora", model=model, cloud="runpod, simulated", gpu="", gpu_count=1, unit="steps", amount=steps)
    settings = StackSettings(
        cloud="runpod", gpu=(gpu,), hours=12.0, disk_gb=random_.choice((40, 100, 250, 500)), spot=spot, volume=volume,
        tier=random_.choice(("SECURE", "COMMUNITY")) if volume is None else "SECURE",
    )  # fmt: skip
    train = load * random_.uniform(0.8, 1.2) + steps * _PACE[gpu] * slower * random_.gauss(1.0, 0.03)
    return DrawnRun(workload, settings, train, random_.uniform(60, 240) + random_.uniform(20, 60))


def play(emulator: Emulator, ledger: Ledger, random_: random.Random) -> Iterator[BilledRun]:
    """Yield run after run, each estimated before it begins, billed after it, and then part of the history."""
    clock = [time.time()]
    emulator.fleet.now = lambda: clock[0]
    emulator.fleet.ledger.save_account({"volumes": [_VOLUME]})
    cloud = RunPodCloud.from_env(emulator.env)
    while True:
        drawn = draw(random_)
        priced = estimate(cloud, drawn.settings, drawn.settings.hours)
        workload = replace(drawn.workload, gpu=str(priced.offer.gpu))
        priced = replace(priced, expected=expect(measured_runs(ledger), workload))
        pod = cloud.create(_spec(drawn.settings), priced.offer)
        clock[0] += drawn.train + drawn.aside
        cloud.terminate(pod.id)
        billed = cloud.billed(pod.id)
        ledger.add(RunId("bench", pod.id), MEASURED, **asdict(MeasuredRun(workload=workload, train=drawn.train, aside=drawn.aside)))
        yield BilledRun(drawn, priced, billed)
        clock[0] += 3600


def _spec(settings: StackSettings) -> PodSpec:
    fence, lease, end = new_id(), new_id(), datetime.now(UTC) + timedelta(days=7)
    name = str(PodName(fence, lease, "pod", "0" * 8))
    return PodSpec(
        name=name, fence_id=fence, lease_id=lease, stop=end, end=end, image="x", disk_gb=settings.disk_gb, volume=settings.volume,
    )  # fmt: skip


def measure(runs: int, seed: int) -> tuple[list[BilledRun], list[BilledRun]]:
    """Return so many runs whose cost was estimated from like ones, and those before them that none preceded."""
    counted: list[BilledRun] = []
    first: list[BilledRun] = []
    with tempfile.TemporaryDirectory(prefix="tye") as folder:
        emulator = start(RUNPOD, Path(folder) / "cloud", timing=Timing(provisioning=1e12), limits={"minute": 10**6, "hour": 10**6}, env={})
        try:
            for run in play(emulator, Ledger(Path(folder) / "ledger.db"), random.Random(seed)):
                (counted if run.estimate.expected else first).append(run)
                if len(counted) == runs:
                    return counted, first
        finally:
            emulator.stop()
    raise AssertionError("play() goes on")


def _gpu(offer: Offer) -> str:
    return f"{offer.gpu_count}x {str(offer.gpu).removeprefix('NVIDIA ').removeprefix('GeForce ')}"


def show(counted: list[BilledRun], first: list[BilledRun], seed: int) -> int:
    """Print the table; return 1 where the target is missed, or a bill is above what a run could cost at most."""
    table = Table("GPU", "$/h", "disk GB", "hours", "like runs", "estimate $", "range $", "bill $", "off by")
    for run in counted:
        low, likely, high = run.estimate.likely or (0.0, 0.0, 0.0)
        kind = " spot" if run.drawn.settings.spot else " volume" if run.drawn.settings.volume else ""
        table.add_row(
            _gpu(run.estimate.offer) + kind, f"{run.estimate.offer.price_per_hour:.2f}", str(run.drawn.settings.disk_gb),
            f"{(run.drawn.train + run.drawn.aside) / 3600:.2f}", str(run.estimate.expected and run.estimate.expected.runs),
            f"{likely:.2f}", f"{low:.2f}-{high:.2f}", f"{run.billed:.2f}", f"{100 * run.error:+.1f} %",
        )  # fmt: skip
    Console(width=120).print(table)
    errors = sorted(abs(run.error) for run in counted)
    inside = sum(low <= run.billed <= high for run in counted if run.estimate.likely for low, _, high in (run.estimate.likely,))
    above = sum(run.billed > run.estimate.most for run in (*counted, *first))
    whole = sum(run.estimate.likely[1] for run in counted if run.estimate.likely) / sum(run.billed for run in counted) - 1
    within = sum(error <= TARGET for error in errors)
    print(
        f"{len(counted)} runs (seed {seed}), after {len(first)} that no like run preceded: {within} within {TARGET:.0%}; off by "
        f"{statistics.median(errors):.1%} in the middle, {errors[-1]:.1%} at most, {whole:+.1%} in all; {inside} bills within their range, "
        f"{above} above what the run could cost at most"
    )
    return 1 if abs(whole) > TARGET or statistics.median(errors) > TARGET or above else 0


def main() -> int:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    return show(*measure(asked.runs, asked.seed), asked.seed)


if __name__ == "__main__":
    raise SystemExit(main())
