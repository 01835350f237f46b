"""What a bundle holds of a run's own, to build another one from: code, files, data by their hashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trainyard.errors import UserError
from trainyard.files import sha256_of
from trainyard.jsontext import parse_json
from trainyard.recipes.bundle import SHA256_LIST
from trainyard.recipes.code import FOLDER, LIST, Code, CodeFile
from trainyard.recipes.contract import Recipe
from trainyard.recipes.data import Data
from trainyard.recipes.summaries import DataFile, DataSummary, Value, Values
from trainyard.recipes.variables import FILES

BOUND_BY = ("data.json", "data.sha256")
"""Files of a bundle that bind its data to their bytes."""


def hashes_in(bundle: Path) -> dict[str, str]:
    """Return the sha256 of each file of a bundle by its name, but for that of their list."""
    files = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    return {name: sha256_of(path) for name, path in files.items() if name != SHA256_LIST}


def code_in(bundle: Path) -> Code | None:
    """Return the code that lies in a bundle, None where none does; raises UserError where its list cannot be read."""
    path, top = bundle / LIST, bundle / FOLDER
    if not path.is_file():
        return None
    try:
        rows = parse_json(path.read_bytes())["files"]
        files = [CodeFile(r["path"], top / r["path"], int(r["bytes"]), r["sha256"], bool(r["executable"])) for r in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: the list of the run's code cannot be read: {error}") from None
    empty = (folder for folder in top.rglob("*") if folder.is_dir() and not any(folder.iterdir()))
    return Code(root=top, files=tuple(files), empty_folders=tuple(sorted(folder.relative_to(top).as_posix() for folder in empty)))


def settings_in(recipe: Recipe, values: Values, bundle: Path) -> dict[str, object]:
    """Return an attempt's values as settings for the next one: files that went along are those of its bundle, code comes apart."""
    settings: dict[str, object] = {}
    for variable in recipe.variables:
        value: Value = values.get(variable.name)
        if variable.kind == "folder" or (value is None and not variable.optional):
            continue
        if variable.kind in FILES and value is not None:
            value = str(bundle / "files" / Path(str(value)).name)
        settings[variable.name] = value
    return settings


def data_of(summary: DataSummary, recipe: Recipe, in_bucket: Callable[[str], bool], bound: str) -> Data:
    """Return an attempt's data for the next one, each file with the bytes that it had.

    ``in_bucket`` tells whether the run's bucket has the index of a sha256: asked where a file is not on this machine as it
    was; the pod then fetches all of them. Raises UserError naming a file that is nowhere, and by ``bound`` why no other will do.
    """
    files, stored = summary.files, None
    if summary.kind in ("file", "folder"):
        here = [_here(item, recipe) for item in files]
        if all(here):
            files = tuple(replace(item, src=str(path)) for item, path in zip(files, here, strict=True))
        elif (index := summary.stored or summary.in_bucket) is not None and in_bucket(index):
            stored = index
        else:
            raise _nowhere(next(item for item, path in zip(files, here, strict=True) if path is None), bound)
    return Data(
        reference=summary.reference, kind=summary.kind, form=summary.form, rows=summary.rows, bytes=summary.bytes, files=files,
        skipped_rows=summary.skipped_rows, unused=summary.unused, stored=stored, since=summary.since, there=summary.there,
    )  # fmt: skip


def _nowhere(item: DataFile, bound: str) -> UserError:
    gone = "is another file now" if Path(item.src).is_file() else "is not on this machine"
    return UserError(
        f"data: {item.src} {gone}, and {bound} (sha256 {str(item.sha256)[:12]})",
        hint="Put the file back as it was. Other data are another training: invoke train",
    )


def _here(item: DataFile, recipe: Recipe) -> Path | None:
    """Return where a file lies on this machine as it was: at its old place, or as the recipe's own sample."""
    places = [Path(item.src), *([recipe.folder / recipe.sample] if recipe.sample else [])]
    for path in places:
        try:
            if path.is_file() and path.stat().st_size == item.bytes and sha256_of(path) == item.sha256:
                return path.resolve()
        except OSError:
            continue
    return None
