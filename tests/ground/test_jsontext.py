"""A file that is nothing but brackets ends in the same sentence as any other damaged one, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.engine.backend import Backend
from trainyard.engine.hook import ReadableError
from trainyard.errors import StoreError, TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.playbook import loader
from trainyard.recipes import configfile
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.declaration import read_declaration
from trainyard.runs.records.record import RunFolder
from trainyard.settings import reader
from trainyard.storage.manifest import decode
from trainyard.storage.seal import ending_in

DEEP = "[" * 20_000


def test_nesting_without_end_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json('{"a":' * 20_000)


def _record(folder: Path) -> None:
    (folder / "run.json").write_text(DEEP)
    RunFolder(folder).load()


def _config(folder: Path) -> None:
    (folder / "c.json").write_text(DEEP)
    configfile.read(folder / "c.json")


def _settings(folder: Path) -> None:
    (folder / "Pulumi.local.yaml").write_text(f"config:\n  trainyard:gpu: '{DEEP}'\n")
    reader.load(folder, "local")


def _recipe(folder: Path) -> None:
    (folder / "templates" / "x").mkdir(parents=True)
    (folder / "templates" / "x" / "recipe.yaml").write_text(f"name: {DEEP}")
    load_recipe(folder, "x")


def _playbook(folder: Path) -> None:
    (folder / "p.yml").write_text(f"- hosts: {DEEP}")
    loader.load(folder / "p.yml")


def _state(folder: Path) -> None:
    backend = Backend(f"file://{folder}")
    path = backend.checkpoint_path("p", "s")
    path.parent.mkdir(parents=True)
    path.write_text(DEEP)
    backend.load("p", "s")


READERS: dict[str, tuple[Callable[[Path], object], type[TrainyardError] | type[ReadableError]]] = {
    "a run's record": (_record, UserError),
    "a --config file": (_config, UserError),
    "settings with JSON in quotes": (_settings, UserError),
    "a recipe": (_recipe, UserError),
    "a playbook": (_playbook, UserError),
    "what a bundle says of its recipe": (lambda folder: read_declaration(DEEP.encode(), "x"), UserError),
    "a manifest of the bucket": (lambda folder: decode(DEEP.encode(), "x"), StoreError),
    "the state of a stack": (_state, ReadableError),
}


@pytest.mark.parametrize("what", READERS)
def test_a_file_of_brackets_is_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    read, error = READERS[what]

    with pytest.raises(error) as caught:
        read(tmp_path)

    assert len(str(caught.value)) < 700


def test_a_marker_of_brackets_says_nothing() -> None:
    assert ending_in(DEEP.encode()).why == ""
