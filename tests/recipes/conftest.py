"""A checkout's recipes, and small recipes of the tests' own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainyard.recipes.contract import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]
COUNT = Path(__file__).parent / "data" / "count.sh"

SMALL = """
summary: a small recipe
command: sh go.sh
data: none
variables:
  rate: {type: float, default: 0.5, above: 0, max: 1, alias: [lr], help: the rate}
  rank: {type: int, help: x, default: "= 4 if mode == 'tiny' else 8", min: 1, alias: [r]}
  mode: {type: text, help: x, default: tiny, choices: [tiny, big]}
  fast: {type: bool, help: x, default: false}
  names: {type: list, help: x, default: [a, b]}
  args: {type: words, help: x, default: []}
  script: {type: file, help: x, optional: true}
needs: {disk_gb: "= rank * 2", vram_gb: 1}
verdict: {exit_codes: [0], artefacts: ["model/*"]}
refuse:
  - {when: "fast and rank > 8", variable: fast, message: "fast works up to rank 8, not {{ rank }}"}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that writes one recipe.yaml and returns the root it lies under."""

    def write(text: str = SMALL, name: str = "small", **files: str) -> Path:
        folder = tmp_path / "checkout" / "templates" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(textwrap.dedent(text))
        for file, content in files.items():
            (folder / file.replace("_", ".")).write_text(content)
        return tmp_path / "checkout"

    return write


@pytest.fixture
def small(checkout: Callable[..., Any]) -> Recipe:
    return load_recipe(checkout(), "small")
