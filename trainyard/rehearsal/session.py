"""A rehearsal of a stack: the whole story against an emulator, in a world of its own.

Own checkout folder (links to the program, a copy of the settings), own state, own bucket on the local S3 server,
own ledger, a throw-away key. Nothing of it is reached by a run that was not started as a rehearsal.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard import config
from trainyard.config import Places, settings_file
from trainyard.errors import UserError
from trainyard.rehearsal.runpod import refuse_beside_the_real, start
from trainyard.storage import local

EMULATED = ("runpod",)
_LINKED = (".venv", "infra", "playbooks", "templates", "tasks.py", "Pulumi.yaml")
_OWN_STORE = re.compile(r"^\s*trainyard:(store|bucket|disk_gb)\s*:.*\n?", re.MULTILINE)
_SETTINGS = """\
  trainyard:store: local
  # What the rented pod would have need not be free on this machine.
  trainyard:disk_gb: 5
"""


@dataclass(frozen=True, slots=True)
class World:
    """Where a rehearsal lives and with which environment its verbs run."""

    root: Path
    env: Mapping[str, str]


@contextmanager
def rehearsal(stack: str, places: Places, env: Mapping[str, str]) -> Iterator[World]:
    """Run the emulator of a stack's cloud while the block lasts; its pods are ended at the end.

    Raises UserError for a stack without emulator, RefusedError beside a real base URL.
    """
    if stack not in EMULATED:
        raise UserError(f"there is no emulator for stack '{stack}'", hint=f"Stacks that can be rehearsed: {', '.join(EMULATED)}.")
    refuse_beside_the_real(env)
    base = places.home / "rehearsal" / stack
    root = _checkout(base / "checkout", stack, places)
    emulator = start(base / "cloud", env=env)
    envs = _share_environments(places, base / "cloud" / "machines")
    _share_environments(places, base / "outside" / "cloud")
    try:
        yield World(root, {**_without_stores(env), **emulator.env, **_own_places(root, base), "TRAINYARD_ENVS": str(envs)})
    finally:
        emulator.stop(end_pods=True)
        local.stop(config.places(root, _own_places(root, base)))


def _own_places(root: Path, base: Path) -> dict[str, str]:
    return {"TRAINYARD_PROJECT_DIR": str(root), "TRAINYARD_HOME": str(root / ".trainyard"), "TRAINYARD_LOCAL_ROOT": str(base / "outside")}


def _without_stores(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without any store's keys: a rehearsal's results go to the local store."""
    return {key: value for key, value in env.items() if not key.startswith(("RUNPOD_", "AWS_", "R2_"))}


def _checkout(root: Path, stack: str, places: Places) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name in _LINKED:
        link = root / name
        link.unlink(missing_ok=True)
        link.symlink_to(places.root / name)
    text = _OWN_STORE.sub("", settings_file(places.root, stack).read_text(encoding="utf-8"))
    (root / f"Pulumi.{stack}.yaml").write_text(text.rstrip("\n") + "\n" + _SETTINGS, encoding="utf-8")
    return root


def _share_environments(places: Places, cloud: Path) -> Path:
    """Let a local cloud see the Python environments of this machine's own one (some GB each); return where."""
    shared, link = places.cloud / "envs", cloud / "envs"
    shared.mkdir(parents=True, exist_ok=True)
    cloud.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        if link.is_dir():
            shutil.rmtree(link)
        os.symlink(shared, link)
    return link
