"""What a bundle says of its own recipe (``recipe.json``): a run is judged by it, whatever has become of the checkout since."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.recipes.contract import KnownFailure, Recipe
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import artefacts_of, locked_packages, needs_of, patterns_of

DECLARED = "recipe.json"


@dataclass(frozen=True, slots=True)
class Declaration:
    """The part of a recipe that a started run still needs."""

    outputs: tuple[str, ...]
    excludes: tuple[str, ...]
    checkpoints: str | None
    checkpoint_mark: str | None
    exit_codes: tuple[int, ...]
    stopped: tuple[int, ...]
    failures: tuple[KnownFailure, ...]
    needs: Mapping[str, Any]
    locks: tuple[str, ...]


def declaration(recipe: Recipe, values: Values, versions: Mapping[str, str], packages: Sequence[str] = ()) -> dict[str, object]:
    """Return what a run's bundle keeps of its recipe, as plain data; ``packages``: files that name the code's packages."""
    return {
        "recipe": recipe.name,
        "command": recipe.command,
        "versions": dict(versions),
        "outputs": [{"pattern": pattern, "kind": item.kind} for item in recipe.outputs for pattern in patterns_of(item, recipe, values)],
        "excludes": list(recipe.excludes),
        "checkpoints": recipe.checkpoints,
        "checkpoint_mark": recipe.checkpoint_mark,
        "verdict": {
            "exit_codes": list(recipe.verdict.exit_codes),
            "stopped": list(recipe.verdict.stopped),
            "artefacts": artefacts_of(recipe, values),
        },
        "failures": [{"pattern": known.pattern.pattern, "remedy": known.remedy} for known in recipe.known_failures],
        "needs": needs_of(recipe, values),
        "resume_may_change": [variable.name for variable in recipe.variables if variable.resume],
        "packages": {kind: locked_packages(lock) for kind, lock in recipe.locks.items()} | {name: {} for name in packages},
    }


def read_declaration(text: bytes, where: str) -> Declaration:
    """Read what ``declaration`` wrote; raises UserError naming the place when it is damaged."""
    try:
        said = parse_json(text)
        verdict = said["verdict"]
        return Declaration(
            outputs=tuple(item["pattern"] for item in said["outputs"]),
            excludes=tuple(said["excludes"]),
            checkpoints=said["checkpoints"],
            checkpoint_mark=said.get("checkpoint_mark"),
            exit_codes=tuple(verdict["exit_codes"]),
            stopped=tuple(verdict["stopped"]),
            failures=tuple(KnownFailure(re.compile(item["pattern"]), item["remedy"]) for item in said["failures"]),
            needs=said["needs"],
            locks=tuple(said["packages"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise UserError(f"{where}: what the bundle says of its recipe cannot be read: {type(error).__name__}: {error}") from None
