"""The verb data.build as a person says it, in the environment of the recipe's lock that this machine has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from trainyard import config
from trainyard.recipes import venvs
from trainyard.recipes.contract import load_recipe


def environment(recipe: str) -> Path:
    """Return the ready environment of a recipe's lock for CPUs; skip the test where this machine has none."""
    lock = load_recipe(ROOT, recipe).locks["cpu"]
    folder = Path(os.environ.get("TRAINYARD_ENVS") or config.places().cloud / "envs") / venvs.key_of(lock)
    if not (folder / venvs.STAMP).is_file():
        pytest.skip(f"no ready environment of templates/{recipe}/cpu.lock in {folder.parent}: whatever uses the recipe here makes it")
    return folder


def surroundings(tmp_path: Path) -> dict[str, str]:
    """Return what the verb runs in: a root of its own, that environment, no network."""
    folder = environment("dataset")
    root = tmp_path / "local"
    (root / "cloud" / "envs").mkdir(parents=True)
    (root / "cloud" / "envs" / folder.name).symlink_to(folder)
    return {**os.environ, "TRAINYARD_LOCAL_ROOT": str(root), "HF_HUB_OFFLINE": "1"}


def command(*words: str) -> list[str]:
    """Return the command line of the verb."""
    return [shutil.which("invoke", path=str(ROOT / ".venv" / "bin")) or "invoke", "data.build", *words]


def build(env: dict[str, str], *words: str, code: int = 0) -> str:
    """Say the verb; return all that it printed."""
    done = subprocess.run(command(*words), cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
