"""Train the sample of recipe lora by the recipe and by TRL's SFTTrainer, side by side: the same base, tokens, seed and settings.

TRL is fetched into a folder apart; both run in the recipe's own environment. 1 when losses differ, or ours is slower or takes more memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import machine, measure
from tests.recipes.conftest import ROOT
from tests.recipes.trainings import Training, environment, python
from trainyard.recipes.contract import load_recipe

TRL = [
    "trl==1.16.0", "datasets", "pyarrow", "dill", "multiprocess", "pandas", "python-dateutil", "six", "tzdata",
    "fsspec", "xxhash", "httpx", "aiohttp", "multidict", "yarl", "frozenlist", "aiosignal", "attrs", "propcache", "aiohappyeyeballs",
]  # fmt: skip
"""TRL with what it imports and the recipe's environment lacks."""
PEER = Path(__file__).with_name("sft.py")
NOISE, SLOWER, LARGER = 0.01, 1.05, 1.05
"""How far losses may be apart as a share, and what may be lost to the noise of a machine."""
_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainyard" / "bench-trl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train by both in turn, and print both; 1 when ours is behind."""
    parser = argparse.ArgumentParser(prog="python -m bench.lora", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args(arguments)
    envs, recipe = environment(), load_recipe(ROOT, "lora")
    rows = [json.loads(line) for line in (recipe.folder / str(recipe.sample)).read_text().splitlines()]
    _fetch(python(envs))
    found: dict[str, list[dict[str, Any]]] = {"lora": [], "TRL": []}
    with tempfile.TemporaryDirectory(prefix="bench-lora-") as temporary:
        home = {"PATH": os.environ["PATH"], "HOME": temporary, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        for number in range(asked.rounds):
            folder = Path(temporary) / str(number)
            ours = Training(folder, envs, rows, f"max_steps={asked.steps}", f"save_steps={asked.steps}")
            used = measure(["sh", str(folder / "run" / "run.sh")], {**home, "TRAINYARD_ENVS": str(envs)}, folder)
            found["lora"].append(_seen(ours.metrics, used.peak))
            order = [str(python(envs)), "-P", str(PEER), str(folder), str(asked.steps)]
            used = measure(order, {**home, "PYTHONPATH": str(_HOME)}, folder)
            found["TRL"].append(_seen(json.loads((folder / "trl.json").read_text()), used.peak))
            print(f"round {number + 1} of {asked.rounds}", flush=True)
    return _judge(found)


def _seen(lines: Sequence[Mapping[str, Any]], peak: float) -> dict[str, Any]:
    """Return the losses, the seconds of a step in the middle, and the memory."""
    steps = [line for line in lines if "loss" in line]
    between = [later["time"] - earlier["time"] for earlier, later in itertools.pairwise(steps)]
    return {"losses": [line["loss"] for line in steps], "seconds": statistics.median(between), "peak": peak}


def _judge(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
    apart = max(
        abs(one - other) / other
        for mine, theirs in zip(found["lora"], found["TRL"], strict=True)
        for one, other in zip(mine["losses"], theirs["losses"], strict=True)
    )
    print("\n| | first loss | last loss | s a step | peak memory |\n| --- | ---: | ---: | ---: | ---: |")
    middle = {who: {name: statistics.median(each[name] for each in seen) for name in ("seconds", "peak")} for who, seen in found.items()}
    for who, seen in found.items():
        losses = seen[0]["losses"]
        print(f"| {who} | {losses[0]:.4f} | {losses[-1]:.4f} | {middle[who]['seconds']:.3f} | {middle[who]['peak']:.0f} MiB |")
    speed = middle["TRL"]["seconds"] / middle["lora"]["seconds"]
    print(f"\nlosses at most {apart:.2%} apart; lora takes a step {speed:.2f} times as fast as TRL; {machine()}")
    behind = apart > NOISE or speed * SLOWER < 1 or middle["lora"]["peak"] > LARGER * middle["TRL"]["peak"]
    return 1 if behind else 0


def _fetch(interpreter: Path) -> None:
    if not (_HOME / "trl").is_dir():
        print(f"bench: fetching TRL into {_HOME}", flush=True)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", interpreter, "--no-deps", "--target", _HOME, *TRL], check=True)


if __name__ == "__main__":
    sys.exit(main())
