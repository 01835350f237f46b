"""The rows of a cycle's round: built from the sources, and with ``since: last`` only what no earlier round has learnt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import UserError
from trainyard.files import sync, write_atomic
from trainyard.recipes import data
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.values import resolve, sets_with
from trainyard.runs.after.cyclebook import LEARNT, CycleRequest
from trainyard.runs.context import CommandContext
from trainyard.runs.verbs.builddata import RECIPE, build_data

ROWS, HELD = "rows.jsonl", "rows.eval.jsonl"


@dataclass(frozen=True, slots=True)
class CycleRows:
    """What there is to train on. ``known``: rows that were left out as learnt before."""

    rows: int
    held: int
    known: int


def digest_of(context: CommandContext, request: CycleRequest) -> str:
    """Return a digest of a request and of every byte that it names; raises UserError for a source that is not there."""
    recipe = load_recipe(context.places.root, RECIPE)
    files: list[list[object]] = []
    for source in request.data:
        there = data.inspect(source, recipe)
        files += [[file.dest, file.sha256] for file in there.files] or [[there.reference]]
    texts = [_content(path) for path in (request.config, request.prompts)]
    asked = {name: str(value) for name in CycleRequest.__dataclass_fields__ if name not in _BESIDE and (value := getattr(request, name))}
    return hashlib.sha256(json.dumps([asked, files, texts], sort_keys=True).encode()).hexdigest()


_BESIDE = ("yes", "hours", "budget", "name", "data", "config", "prompts")
"""What says nothing of what is learnt, and paths, whose contents count."""


def build(context: CommandContext, request: CycleRequest, folder: Path, before: Path | None) -> CycleRows:
    """Build the rows of a round into its folder; ``before``: the folder of the round whose rows are not learnt again.

    Raises what build_data() raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    build_data(context, request.data, str(folder / ROWS), None, _sets(context, request))
    known = _digests(before / LEARNT) if before is not None else set[str]()
    rows, old = _without(folder / ROWS, known)
    held, _ = _without(folder / HELD, known)
    learnt = known | {_digest(line) for line in _lines(folder / ROWS)}
    write_atomic(folder / LEARNT, "".join(f"{each}\n" for each in sorted(learnt)), durable=True)
    return CycleRows(rows, held, old)


def refuse_settings(context: CommandContext, request: CycleRequest) -> None:
    """Raise UserError for settings of the data builder that it would refuse."""
    recipe = load_recipe(context.places.root, RECIPE)
    resolve(recipe, None, sets_with(recipe, _sets(context, request), None))


def _sets(context: CommandContext, request: CycleRequest) -> list[str]:
    return [*_shared(context, request), *request.data_sets]


def _shared(context: CommandContext, request: CycleRequest) -> Iterator[str]:
    """Yield those variables of the training by which the data builder counts tokens and steps, too."""
    names = {name for variable in load_recipe(context.places.root, RECIPE).variables for name in (variable.name, *variable.aliases)}
    for text in request.sets:
        name, _, value = text.partition("=")
        if name.strip() in names and name.strip() not in ("device", "on_bad_row", "val_set_size") and not value.strip().startswith("tiny-"):
            yield text


def _without(path: Path, known: set[str]) -> tuple[int, int]:
    """Take the rows that are known out of a file, and a file away that has none left; return how many stay and how many went."""
    if not path.is_file():
        return 0, 0
    if not known:
        return sum(1 for _ in _lines(path)), 0
    stay = gone = 0
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as out:
        for line in _lines(path):
            if _digest(line) in known:
                gone += 1
            else:
                out.write(line + b"\n")
                stay += 1
    sync(draft)
    draft.replace(path)
    if not stay:
        path.unlink()
    return stay, gone


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file if line.strip())


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:32]


def _digests(path: Path) -> set[str]:
    return {line.decode("ascii", "replace") for line in _lines(path)}


def _content(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
