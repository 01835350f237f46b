"""Train the sample of recipe lora by the recipe and by TRL in turn: the same base, tokens, seed and settings; answers, then preferences.

TRL is fetched into a folder apart; both run in the recipe's own environment, which is made where it is not there. 1 when losses
differ, or ours is slower or takes more memory. A step of the tiny base is mostly the trainer's own work; --base smollm2 is a real one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.measure import machine, measure
from tests.recipes.conftest import ROOT
from tests.recipes.trainings import Training, packages_apart, python, smollm2
from trainyard import config
from trainyard.recipes import venvs
from trainyard.recipes.contract import load_recipe

TRL = (
    "trl==1.16.0", "datasets==5.2.0", "pyarrow==21.0.0", "dill==0.4.0", "multiprocess==0.70.18", "pandas==3.1.1",
    "python-dateutil==4.0.0", "six==1.17.0", "tzdata==2026.6", "fsspec==2026.9.0", "xxhash==4.1.0", "httpx==0.28.1", "aiohttp==3.14.5",
    "multidict==7.2.1", "yarl==1.25.1", "frozenlist==1.8.0", "aiosignal==1.4.0", "attrs==26.1.0", "propcache==0.5.4",
    "aiohappyeyeballs==2.7.1",
)  # fmt: skip
"""TRL with what it imports and the recipe's environment lacks."""
PEER = Path(__file__).with_name("bytrl.py")
NOISE, SLOWER, LARGER = 0.001, 1.05, 1.05
"""How far losses may be apart as a share (margins: of the largest), and what may be lost to the noise of a machine."""
METHODS = {"lora": "SFTTrainer", "dpo": "DPOTrainer"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train by both in turn, and print both; 1 when ours is behind."""
    parser = argparse.ArgumentParser(prog="python -m bench.lora", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--method", choices=METHODS, help="one of them alone")
    parser.add_argument("--base", choices=["tiny", "smollm2"], default="tiny")
    asked = parser.parse_args(arguments)
    recipe = load_recipe(ROOT, "lora")
    envs = venvs.ensure(recipe.locks["cpu"], config.places(), print, imports=recipe.imports).parent
    try:
        trl, base = packages_apart(envs, TRL), smollm2(envs) if asked.base == "smollm2" else None
    except pytest.skip.Exception as error:
        sys.exit(f"bench: {error}")
    methods = [asked.method] if asked.method else list(METHODS)
    return max(_judge(each, train_by_both(each, envs, trl, asked.rounds, asked.steps, base)) for each in methods)


def train_by_both(method: str, envs: Path, trl: Path, rounds: int, steps: int, base: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """Train in turn by the recipe and by TRL; return of each what its runs said: losses, margins, seconds a step, MiB."""
    sets = [f"method={method}", f"max_steps={steps}", f"save_steps={steps}"]
    if base:
        more = "max_seq_length=128", "per_device_train_batch_size=2", "gradient_accumulation_steps=1", "gradient_checkpointing=false"
        sets += [f"base_model={base}", *more]
    found: dict[str, list[dict[str, Any]]] = {"lora": [], "TRL": []}
    with tempfile.TemporaryDirectory(prefix="bench-lora-") as temporary:
        home = {"PATH": os.environ["PATH"], "HOME": temporary, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        for number in range(rounds):
            folder = Path(temporary) / str(number)
            ours = Training(folder, envs, _rows(method), *sets)
            used = measure(["sh", str(folder / "run" / "run.sh")], {**home, "TRAINYARD_ENVS": str(envs)}, folder)
            found["lora"].append(_seen(ours.metrics, used.peak))
            order = [str(python(envs)), "-P", str(PEER), str(folder), str(steps)]
            used = measure(order, {**home, "PYTHONPATH": str(trl)}, folder)
            found["TRL"].append(_seen(json.loads((folder / "trl.json").read_text()), used.peak))
            print(f"method {method}, round {number + 1} of {rounds}", flush=True)
    return found


def _rows(method: str) -> list[dict[str, Any]]:
    """Return the recipe's sample; as preferences each answer is better than that of the row before."""
    recipe = load_recipe(ROOT, "lora")
    rows = [json.loads(line) for line in (recipe.folder / str(recipe.sample)).read_text().splitlines()]
    if method == "lora":
        return rows
    return [
        {"prompt": f"{row['instruction']}\n{row['input']}", "chosen": row["output"], "rejected": rows[number - 1]["output"]}
        for number, row in enumerate(rows)
    ]


def _seen(lines: Sequence[Mapping[str, Any]], peak: float) -> dict[str, Any]:
    """Return the losses, the seconds of a step in the middle, and the memory."""
    steps = [line for line in lines if "loss" in line]
    between = [later["time"] - earlier["time"] for earlier, later in itertools.pairwise(steps)]
    told = {name: [line[key] for line in steps if key in line] for name, key in (("losses", "loss"), ("margins", "reward_margin"))}
    return {**told, "seconds": statistics.median(between), "peak": peak}


def _judge(method: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
    apart, wide = losses_apart(found), margins_apart(found)
    print("\n| | first loss | last loss | s a step | peak memory |\n| --- | ---: | ---: | ---: | ---: |")
    middle = {who: {name: statistics.median(each[name] for each in seen) for name in ("seconds", "peak")} for who, seen in found.items()}
    for who, seen in found.items():
        losses, name = seen[0]["losses"], f"recipe lora, method {method}" if who == "lora" else f"TRL's {METHODS[method]}"
        print(f"| {name} | {losses[0]:.4f} | {losses[-1]:.4f} | {middle[who]['seconds']:.3f} | {middle[who]['peak']:.0f} MiB |")
    speed = middle["TRL"]["seconds"] / middle["lora"]["seconds"]
    print(f"\nlosses at most {apart:.2%} apart; ours takes a step {speed:.2f} times as fast as TRL; {machine()}")
    if wide is not None:
        last = [found[who][-1]["margins"][-1] for who in ("lora", "TRL")]
        print(f"reward margins at most {wide:.2%} of the largest apart: {last[0]:.4f} and {last[1]:.4f} in the end")
    behind = max(apart, wide or 0) > NOISE or speed * SLOWER < 1 or middle["lora"]["peak"] > LARGER * middle["TRL"]["peak"]
    return 1 if behind else 0


def losses_apart(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    """Return how far apart the losses of a step are at most, as a share."""
    mine, theirs = ([loss for each in found[who] for loss in each["losses"]] for who in ("lora", "TRL"))
    return max(float(abs(one - other) / other) for one, other in zip(mine, theirs, strict=True))


def margins_apart(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> float | None:
    """Return how far apart the reward margins of preferences are, as a share of the largest; None where there are none."""
    mine, theirs = ([margin for each in found[who] for margin in each["margins"]] for who in ("lora", "TRL"))
    return max(abs(one - other) for one, other in zip(mine, theirs, strict=True)) / max(map(abs, theirs)) if mine else None


if __name__ == "__main__":
    sys.exit(main())
