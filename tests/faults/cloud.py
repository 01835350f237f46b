"""``python -m tests.faults.cloud [--stack CLOUD] [--only NAME] [--seed S] [--workers N]``: the fault matrix of guarantee G1.

Each trial switches on a fault that a cloud has shown, runs a whole training (or up and destroy), and compares what was
said with the emulator's ledger: nothing is left, or what is left is told with id, price and command. Without ``--only``
every lie of ``tests.faults.lies`` is told, too.
"""

from __future__ import annotations

import argparse
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence

from tests.faults import lies
from tests.faults.sidebyside import side_by_side
from tests.faults.trial import Stage, Trial, play
from tests.faults.trials import left_out, trials
from tests.faults.world import STACK, world
from trainyard.rehearsal.emulators import emulators


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the trials; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.cloud", description=__doc__)
    parser.add_argument("--stack", choices=emulators(), default=STACK, help="the cloud: any that has an emulator")
    parser.add_argument("--only", action="append", default=[], help="a trial's name or a part of it (may be repeated)")
    parser.add_argument("--seed", type=int, default=None, help="cancel CI jobs at the same instants again")
    parser.add_argument("--workers", type=int, default=2, help="worlds side by side")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    chosen = [trial for trial in trials(seed, given.stack) if not given.only or any(part in trial.name for part in given.only)]
    if not chosen:
        print(f"no trial is named so; there are: {', '.join(trial.name for trial in trials(seed, given.stack))}", file=sys.stderr)
        return 2
    without = left_out(seed, given.stack)
    print(f"{given.stack}, seed {seed}, {len(chosen)} faults; {len(without)} make no sense there: {', '.join(without) or '-'}", flush=True)
    stages = run(given.stack, chosen, min(given.workers, len(chosen)), lambda text: print(text, flush=True))
    failed = [stage for stage in stages if stage.problems]
    print(f"\n{len(stages)} faults tried, {len(failed)} failed, seed {seed}" + "".join(f"\n  {stage.trial.name}" for stage in failed))
    believed = 0 if given.only or len(stages) < len(chosen) else lies.main(["--stack", given.stack, "--seed", str(seed)])
    return 1 if failed or believed or len(stages) < len(chosen) else 0


def run(stack: str, chosen: Sequence[Trial], workers: int, say: Callable[[str], None]) -> list[Stage]:
    """Play trials in some worlds side by side; say each one's verdict."""
    waiting: queue.SimpleQueue[Trial] = queue.SimpleQueue()
    for trial in chosen:
        waiting.put(trial)
    stages: list[Stage] = []
    over = threading.Event()

    def work() -> None:
        with world(stack) as mine:
            while not over.is_set():
                try:
                    trial = waiting.get_nowait()
                except queue.Empty:
                    return
                began = time.monotonic()
                stage = play(mine, trial)
                stages.append(stage)
                say(verdict(stage, time.monotonic() - began))

    side_by_side(work, workers, over)
    return stages


def verdict(stage: Stage, seconds: float) -> str:
    """Return what is said of one trial."""
    text = f"{'FAILED' if stage.problems else 'ok':7} {seconds:6.1f} s  {stage.trial.name}: {stage.trial.seen}"
    if not stage.problems:
        return text
    told = "".join(f"\n       {problem}" for problem in stage.problems)
    story = "\n".join(f"       | {line}" for part in stage.story for line in part.splitlines()[-25:])
    return f"{text}{told}\n       again: python -m tests.faults.cloud --stack {stage.world.stack} --only '{stage.trial.name}'\n{story}"


if __name__ == "__main__":
    sys.exit(main())
