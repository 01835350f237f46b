"""What a run leaves at home: ``out/<user>/<run>/``, after failure and cancel too."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainyard.runs.context import Context
from trainyard.runs.record import Record, RunFolder

HOME_FILES = ("run-summary.json", "train.log", "metrics.jsonl", "result.json", "checkpoint.json")


def bring_home(context: Context, record: Record, folder: RunFolder) -> Path:
    """Copy what a person looks at into ``out/<user>/<run>/``, after failure and cancel too."""
    home = record.id.home(context.places.root / "out")
    home.mkdir(parents=True, exist_ok=True)
    for name in HOME_FILES:
        if (folder.path / name).is_file():
            shutil.copy2(folder.path / name, home / name)
    if (folder.bundle / "config.json").is_file():
        shutil.copy2(folder.bundle / "config.json", home / "config.json")
    if folder.bundle.is_dir():
        shutil.copytree(folder.bundle, home / "scripts", dirs_exist_ok=True)
    return home
