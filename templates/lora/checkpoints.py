"""Checkpoints that count: complete ones only, made with the same settings and data.

The trainer writes a checkpoint in place. Only when all its files are on disk does ``complete.json`` name them
with their sizes; whatever lacks it is half a checkpoint and is removed. In each lies what else a training needs that goes on
from it elsewhere: what it was made with, and the metrics so far. Standard library only; the trainer's call is in callbacks.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any

MARK = "complete.json"
FINGERPRINT, METRICS, BEST = "fingerprint.json", "metrics.jsonl", "best"
"""BEST: a folder with the weights so far whose loss of the rows held back is smallest."""
LATER: dict[str, Any] = {
    "neftune_noise_alpha": 0.0, "eval_fraction": 0.0, "eval_file": None, "eval_steps": 10, "early_stop_patience": 0, "keep_best": False,
    "method": "lora", "use_rslora": False, "use_dora": False, "train_on": "completion", "packing": False,
    "dpo_beta": 0.1, "dpo_loss": "sigmoid", "strategy": "auto", "effective_batch_size": None,
}  # fmt: skip
"""Variables that came after the first checkpoints, and the values with which a training is what it was without them."""
_NAME = re.compile(r"^checkpoint-(\d+)$")


def mark(folder: str) -> None:
    """Add fingerprint and metrics to a checkpoint, sync every file of it, then write the list of their sizes."""
    checkpoints = os.path.dirname(os.path.abspath(folder))
    for path in (os.path.join(checkpoints, FINGERPRINT), os.path.join(os.path.dirname(checkpoints), METRICS)):
        if os.path.exists(path):
            shutil.copyfile(path, os.path.join(folder, os.path.basename(path)))
    _same(os.path.join(checkpoints, BEST), os.path.join(folder, BEST))
    sizes = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            sizes[os.path.relpath(path, folder)] = os.path.getsize(path)
    sizes.pop(MARK, None)
    partial = os.path.join(folder, MARK + ".partial")
    with open(partial, "w", encoding="utf-8") as out:
        json.dump(sizes, out, indent=1, sort_keys=True)
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, os.path.join(folder, MARK))


def newest_complete(folder: str) -> str | None:
    """Return the newest complete checkpoint or None; remove those that are not complete."""
    found = sorted((int(match[1]) for match in map(_NAME.match, os.listdir(folder)) if match), reverse=True)
    newest = None
    for step in found:
        path = os.path.join(folder, f"checkpoint-{step}")
        if not is_complete(path):
            print(f"train: checkpoint-{step} is not complete, removed", flush=True)
            shutil.rmtree(path)
        elif newest is None:
            newest = path
    return newest


def is_complete(folder: str) -> bool:
    """Return whether a checkpoint has its mark and every file that the mark names, in its size."""
    try:
        with open(os.path.join(folder, MARK), encoding="utf-8") as file:
            sizes = json.load(file)
        return "trainer_state.json" in sizes and all(os.path.getsize(os.path.join(folder, name)) == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def unpack(folder: str) -> None:
    """Where a checkpoint was brought from elsewhere, put what it was made with beside it, and the metrics so far into the output."""
    newest = None if os.path.exists(os.path.join(folder, FINGERPRINT)) else newest_complete(folder)
    output = os.path.dirname(os.path.abspath(folder))
    for name, target in ((FINGERPRINT, folder), (METRICS, output)):
        path, to = os.path.join(newest or "", name), os.path.join(target, name)
        if newest and os.path.exists(path) and not os.path.exists(to):
            with open(path, "rb") as file, open(to + ".partial", "wb") as out:
                out.writelines(each_step_once(file.readlines()) if name == METRICS else file)
            os.replace(to + ".partial", to)


def take_best(folder: str, checkpoint: str | None) -> None:
    """Put back the best weights as a checkpoint knows them; without a checkpoint there are none yet."""
    shutil.rmtree(os.path.join(folder, BEST), ignore_errors=True)
    if checkpoint:
        _same(os.path.join(checkpoint, BEST), os.path.join(folder, BEST))


def _same(source: str, target: str) -> None:
    """Make a folder of the same files, which are never written to: by links where the disk has them."""
    for name in os.listdir(source) if os.path.isdir(source) else ():
        os.makedirs(target, exist_ok=True)
        try:
            os.link(os.path.join(source, name), os.path.join(target, name))
        except OSError:
            shutil.copyfile(os.path.join(source, name), os.path.join(target, name))


def each_step_once(lines: list[bytes]) -> list[bytes]:
    """Return lines of metrics without those of steps that a crash has cost and that were trained anew."""
    kept: list[tuple[int, bytes]] = []
    last = 0
    for line in lines:
        step = _step_of(line)
        # What the rows held back have come to stands behind its step's own line.
        if step is not None and not (step == last and b'"eval_loss"' in line):
            kept = kept if step > last else [one for one in kept if one[0] < step]
            last = step
        kept.append((step or 0, line))
    return [line for _, line in kept]


def _step_of(line: bytes) -> int | None:
    try:
        step = json.loads(line).get("step")
    except (ValueError, AttributeError):
        return None
    return step if isinstance(step, int) else None


def check_same_run(folder: str, fingerprint: dict[str, Any], free: list[str]) -> str | None:
    """Keep what shapes the training beside the checkpoints; return what differs from an earlier start (a text) or None.

    ``free`` may differ.
    """
    path = os.path.join(folder, FINGERPRINT)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
        names = sorted({*before, *fingerprint} - set(free))
        changed = [
            f"{name}: {before.get(name)!r} -> {fingerprint.get(name)!r}" for name in names if before.get(name) != fingerprint.get(name)
        ]
        return "; ".join(changed) or None
    with open(path + ".partial", "w", encoding="utf-8") as out:
        json.dump(fingerprint, out, indent=1, sort_keys=True)
    os.replace(path + ".partial", path)
    return None
