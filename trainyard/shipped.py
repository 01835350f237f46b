"""What Trainyard brings along (recipes, playbooks, images, the Pulumi project), and which file wins: a repository's own.

In a wheel it is package data below ``assets/``; in a checkout of Trainyard it is the checkout's own top level. Paths
are relative, e.g. ``templates/lora/recipe.yaml``. Standard library only: the bootstrap asks here, too.
"""

from __future__ import annotations

import shutil
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_ASSETS = _PACKAGE / "assets"


def checkout() -> Path | None:
    """Return the checkout of Trainyard that this package runs in, None where it was installed from a wheel."""
    return None if _ASSETS.is_dir() else _PACKAGE.parent


def shipped(path: str) -> Path:
    """Return Trainyard's own file or folder."""
    return (checkout() or _ASSETS) / path


def find(root: Path, path: str) -> Path:
    """Return the repository's file or folder, else Trainyard's; it need not exist."""
    own = root / path
    return own if own.exists() else shipped(path)


def layers(root: Path, path: str) -> tuple[Path, ...]:
    """Return the folders of that name: the repository's first, then Trainyard's; one where they are the same."""
    own, ours = root / path, shipped(path)
    return (own,) if own.is_dir() and own.samefile(ours) else (own, ours)


def overlay(root: Path, path: str, target: Path) -> None:
    """Write a folder as it holds for a repository: Trainyard's files, each replaced by the repository's own of that name.

    What Python has compiled there stays: it would make two images, or two runs, of the same files differ.
    """
    for folder in reversed(layers(root, path)):
        if folder.is_dir():
            shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
