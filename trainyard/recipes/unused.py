"""Remove the Python environments of local pods that nobody needs any more (a recipe's takes some 5 GB).

Kept is what a lock of this checkout names, what a living program uses (it holds the stamp's lock, whichever pod
it runs in), what is being built, and what was asked for a short while ago: its pod may be about to start.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard.config import Places
from trainyard.filelock import acquire_now, closing
from trainyard.recipes.contract import load_recipe, recipe_names
from trainyard.recipes.venvs import STAMP, envs, guard_of, key_of
from trainyard.sizes import human_size

FRESH = 3600.0
"""Seconds after its last use that an environment is kept: runs of other checkouts are not known here."""


@dataclass(frozen=True, slots=True)
class UnusedVenv:
    """One environment of this machine. ``keep`` says why it stays; None: nobody needs it."""

    path: Path
    origin: str
    size: int
    """Bytes on the disk."""
    linked: int
    """Bytes among them that have another name elsewhere (uv's cache): its removal does not free them."""
    keep: str | None


def survey(places: Places) -> list[UnusedVenv]:
    """Return all environments, sorted by name. Removes nothing."""
    needed = _needed(places.root)
    venvs = []
    for path in sorted(envs(places).glob("[!.]*")):
        keep = needed.get(_lock_hash(path.name))
        if keep is None:
            with _hold(path) as keep:
                pass
        venvs.append(UnusedVenv(path, _origin(path), *_sizes(path), keep))
    return venvs


def clean(places: Places) -> list[UnusedVenv]:
    """Remove what nobody needs and return it. What a killed removal leaves is no environment; the next one goes on with it."""
    return [venv for venv in survey(places) if venv.keep is None and _remove(venv.path)]


def lines(venvs: Sequence[UnusedVenv], gone: Sequence[UnusedVenv]) -> Iterator[str]:
    """Yield what a person reads: each environment and why it stays, then what its removal did not free."""
    removed = {each.path for each in gone}
    for each in venvs:
        fate = "removed" if each.path in removed else each.keep or "nobody needs it"
        yield f"{fate}: {each.path.name} (of {each.origin}, {human_size(each.size)})"
    linked = sum(each.linked for each in gone)
    if linked > 1e8:
        yield f"{human_size(linked)} lie in uv's cache too; 'uv cache clean' empties that, and all projects download again"


def _remove(path: Path) -> bool:
    with _hold(path) as refusal:
        if refusal is None:
            (path / STAMP).unlink(missing_ok=True)
            shutil.rmtree(path)
    return refusal is None


@contextmanager
def _hold(path: Path) -> Iterator[str | None]:
    """Keep builders and users from an environment; yields why it must stay, None when it may go."""
    guard = acquire_now(guard_of(path))
    if guard is None:
        yield "being built"
        return
    with closing(guard):
        try:
            stamp = acquire_now(path / STAMP, create=False)
        except FileNotFoundError:
            yield None
            return
        if stamp is None:
            yield "in use"
            return
        with closing(stamp):
            yield "used within the last hour" if time.time() - os.fstat(stamp).st_mtime < FRESH else None


def _needed(root: Path) -> dict[str, str]:
    """Return hash -> name of every lock of this checkout's recipes."""
    locks = [lock for name in recipe_names(root) for lock in load_recipe(root, name).locks.values()]
    return {_lock_hash(key_of(lock)): f"needed by {lock.parent.name}/{lock.name}" for lock in locks}


def _lock_hash(name: str) -> str:
    return name.partition("-")[0]


def _origin(path: Path) -> str:
    try:
        return (path / STAMP).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "no finished build"


def _sizes(path: Path) -> tuple[int, int]:
    """Return the bytes of a folder, each file counted once, and those of them that have a name elsewhere too."""
    sizes: dict[int, int] = {}
    names_elsewhere: dict[int, int] = {}
    for root, _, names in os.walk(path):
        for name in names:
            file = os.lstat(os.path.join(root, name))
            sizes[file.st_ino] = file.st_blocks * 512
            names_elsewhere[file.st_ino] = names_elsewhere.get(file.st_ino, file.st_nlink) - 1
    return sum(sizes.values()), sum(sizes[inode] for inode, count in names_elsewhere.items() if count > 0)
