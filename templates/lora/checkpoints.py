"""Checkpoints that count: complete ones only, made with the same settings and data.

The trainer writes a checkpoint in place. Only when all its files are on disk does ``complete.json`` name them
with their sizes; whatever lacks it is half a checkpoint and is removed. Standard library only; the trainer's call is in callbacks.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any

MARK = "complete.json"
_NAME = re.compile(r"^checkpoint-(\d+)$")


def mark(folder: str) -> None:
    """Sync every file of a checkpoint, then write the list of their sizes."""
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


def check_same_run(folder: str, fingerprint: dict[str, Any]) -> str | None:
    """Keep what shapes the training beside the checkpoints; return what differs from an earlier start (a text) or None."""
    path = os.path.join(folder, "fingerprint.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
        names = sorted({*before, *fingerprint})
        changed = [
            f"{name}: {before.get(name)!r} -> {fingerprint.get(name)!r}" for name in names if before.get(name) != fingerprint.get(name)
        ]
        return "; ".join(changed) or None
    with open(path + ".partial", "w", encoding="utf-8") as out:
        json.dump(fingerprint, out, indent=1, sort_keys=True)
    os.replace(path + ".partial", path)
    return None
