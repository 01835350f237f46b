"""What programs that train do alike: one at a time in an output folder, an exit code for each end, steps as the trainer counts them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from telemetry import IS_MAIN, WORLD, Status

SHOWN = 20
"""Places of rows that are named; the rest is counted."""
_FULL = 1 << 20
"""With fewer bytes than these no disk takes a checkpoint."""


class Refused(Exception):
    """Settings, data or machine are wrong: said in one line, without a traceback. Exit code 2."""


class RowReport:
    """What became of every row of a training: how many of each kind, and where the first ones stand."""

    def __init__(self) -> None:
        self.rows = self.tokens = self.learnt = 0
        self.kinds: Counter[str] = Counter()
        self.unused: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}
        self.reasons: list[str] = []

    def note(self, kind: str, place: str, reason: str | None = None) -> None:
        """Count a row of a kind; the first ones are named."""
        self.kinds[kind] += 1
        if len(self.places.setdefault(kind, [])) < SHOWN:
            self.places[kind].append(place)
            self.reasons += [f"{place}: {reason}"] if reason else []


def run(train: Callable[[], int], output: str, status: Status, refusals: tuple[type[Exception], ...] = ()) -> int:
    """Train; return the exit code: that of the training, 2 when settings, data or machine are wrong, 1 when it failed.

    ``refusals`` mean the same as Refused.
    """
    wrong: tuple[type[Exception], ...] = (Refused, *refusals)
    # The folder itself is locked: a lock file would be one more file among the results.
    guard = os.open(output, os.O_RDONLY)
    try:
        if IS_MAIN:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("train: another training writes into this OUTPUT_DIR", file=sys.stderr)
        return 2
    try:
        code = train()
        _leave_word(done=True)
        return code
    except wrong as error:
        message, code = str(error), 2
    except torch.OutOfMemoryError as error:
        message, code = f"GPU memory is full (CUDA out of memory): {str(error).splitlines()[0]}", 1
        traceback.print_exc()
    except SystemExit as error:  # of a library: its code could be one that means success
        message, code = f"a library ended the program (exit code {error.code})", 1
        traceback.print_exc()
    except Exception as error:  # the traceback goes to the log, the line to status.json
        message, code = f"{type(error).__name__}: {error}", 1
        if shutil.disk_usage(output).free < _FULL:  # torch's own writer only says that its place in the file is unexpected
            message += " (No space left on device)"
        traceback.print_exc()
    _leave_word(message=message, time=time.time(), code=code)
    print(f"train: {message}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # a full disk takes no status, and the log has the reason by now
        status.write("failed", message[:2000])
    return code


def _leave_word(**word: Any) -> None:
    """Where several train together, leave for launch.py how this one has ended: the first to fail is the one that is told of."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    with contextlib.suppress(OSError):
        if path and WORLD > 1:
            write_json(word, os.path.dirname(path), os.path.basename(path), each=True)


def refuse(message: str | None) -> None:
    """Raise Refused when there is a message."""
    if message:
        raise Refused(message)


def choose_device(asked: str, *, needs_cuda: bool = False) -> str:
    """Return cuda, mps or cpu. Raises Refused when a GPU is asked for, or CUDA needed, and there is none."""
    if asked == "cpu":
        return "cpu"
    if torch.cuda.is_available() and asked != "mps":
        return "cuda"
    if torch.backends.mps.is_available() and not needs_cuda:
        return "mps"
    if asked in ("gpu", "mps") or needs_cuda:
        raise Refused(f"{'an Apple GPU (MPS)' if asked == 'mps' else 'a GPU'} is asked for, but torch sees none on this machine")
    return "cpu"


def read_json(*path: str) -> Any:
    """Return what a file of JSON holds."""
    with open(os.path.join(*path), encoding="utf-8") as file:
        return json.load(file)


def write_json(value: Any, folder: str, name: str, *, each: bool = False) -> None:
    """Write a file whole or not at all; of several processes the first does, or ``each``."""
    if not (IS_MAIN or each):
        return
    partial = os.path.join(folder, f".{name.partition('.')[0]}.partial")
    with open(partial, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2, ensure_ascii=False)
    os.replace(partial, os.path.join(folder, name))


def settings_kept(run_dir: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings and the sha256 of the data that must be equal for a checkpoint to be gone on with."""
    free, data = read_json(run_dir, "recipe.json")["resume_may_change"], read_json(run_dir, "data.json")
    kept = {name: value for name, value in config.items() if name not in free and not name.startswith("needs.")}
    return kept | {"data": hashlib.sha256(json.dumps([data["files"], data["hub"]], sort_keys=True).encode()).hexdigest()}


def already_done(output: str, status: Status) -> bool:
    """Return whether an earlier start finished: result.json is written last."""
    if not os.path.exists(os.path.join(output, "result.json")) or not os.path.isdir(os.path.join(output, "model")):
        return False
    done = read_json(output, "result.json")
    status.write("done", "done already", step=done["steps"], total_steps=done["planned_steps"], loss=done["final_loss"])
    print("train: done already", flush=True)
    return True


def accumulation(config: dict[str, Any]) -> int:
    """Return the passes in one step of each process. Raises Refused where effective_batch_size cannot be had by them."""
    rows: int | None = config.get("effective_batch_size")
    if not rows:
        return int(config["gradient_accumulation_steps"])
    at_once = config["per_device_train_batch_size"] * WORLD
    if rows % at_once:
        raise Refused(
            f"effective_batch_size {rows} is no multiple of the {at_once} rows that {WORLD} process{'es' * (WORLD > 1)} take in one pass "
            f"(per_device_train_batch_size {config['per_device_train_batch_size']} each)"
        )
    return int(rows // at_once)


def planned_steps(config: dict[str, Any], count: int) -> int:
    """Return the steps of the whole training over so many samples, as the trainer counts them."""
    passes = math.ceil(math.ceil(count / config["per_device_train_batch_size"]) / WORLD)
    steps = math.ceil(config["num_train_epochs"] * math.ceil(passes / accumulation(config)))
    limit: int = config["max_steps"]
    return limit if limit > 0 else steps


def warmup(config: dict[str, Any], count: int) -> int:
    """Return the steps in which the learning rate rises: warmup_steps, else warmup_ratio of all steps as the trainer counts them."""
    if config["warmup_steps"] or not config["warmup_ratio"]:
        return int(config["warmup_steps"])
    ratio: float = config["warmup_ratio"]
    return math.ceil(ratio * planned_steps(config, count))
