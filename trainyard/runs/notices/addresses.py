"""Whom a stack's ``notify`` names: variables that hold addresses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trainyard.settings import reader

_REFERENCE = "env:"


def names_of(root: Path, stacks: Iterable[str]) -> list[str]:
    """Return the variables of stacks, each once; of settings that are wrong elsewhere, too. Raises UserError."""
    named = (reader.partly(root, stack, "notify").notify for stack in stacks)
    return list(dict.fromkeys(name.removeprefix(_REFERENCE) for names in named for name in names))
