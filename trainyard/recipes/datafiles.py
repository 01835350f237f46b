"""Which files are the data: those of a folder or of a prefix in a bucket, under names that the pod takes as they are.

Nothing vanishes: what is left out is listed, what cannot be taken is refused by name. Nothing but regular files is
ever opened: whoever opens a FIFO waits for ever.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from trainyard.errors import UserError
from trainyard.pod.files import name_problem, printable
from trainyard.recipes.secretfiles import is_secret_name

_ASIDE = ("readme", "license", "licence")
_OTHER_KEY = "Copy the object under another key, or name another prefix."


class NamedFile(Protocol):
    """A file with its name below the reference."""

    @property
    def name(self) -> str:
        """Its path there, with '/'."""


N = TypeVar("N", bound=NamedFile)


def of_folder(folder: Path, rows: bool, left_out: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield the data files below a folder with their names, sorted; links are followed, folders only within the folder.

    Raises UserError for what can be no data file, naming it.
    """
    top = os.path.realpath(folder)
    yield from _walk(folder, "", [top], rows, left_out)


def of_bucket(files: Sequence[N], reference: str, rows: bool, left_out: list[str]) -> list[N]:
    """Return the data files of a listing, sorted by name; raises UserError for names that would not lie below ``input/``."""
    kept = [item for item in sorted(files, key=lambda item: item.name) if not _aside(item.name, rows, left_out)]
    names = {item.name for item in kept}
    if len(names) < len(kept):
        twice = next(one.name for one, other in itertools.pairwise(kept) if one.name == other.name)
        raise UserError(f"--data {reference}: two objects would be '{printable(twice)}'", hint=_OTHER_KEY)
    for name in sorted(names):
        if problem := name_problem(name):
            raise UserError(
                f"--data {reference}: '{printable(name)}': {problem}", hint="Copy the object under another key, or name another prefix."
            )
        parent = name
        while parent := parent.rpartition("/")[0]:
            if parent in names:
                raise UserError(
                    f"--data {reference}: '{parent}' is an object and '{name}' lies below it: no folder can hold both",
                    hint=_OTHER_KEY,
                )
    return kept


def need_file(path: Path) -> None:
    """Raise UserError unless a path leads to a regular file that a pod can hold under its name."""
    try:
        kind = path.stat().st_mode
    except OSError as error:
        nothing = path.is_symlink() and isinstance(error, FileNotFoundError)
        raise UserError(f"{path}: is a link to nothing" if nothing else f"{path}: cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(kind):
        raise UserError(f"{path}: is no regular file")
    if problem := name_problem(path.name):
        raise UserError(f"{printable(str(path))}: {problem}", hint="Rename it.")


def _walk(folder: Path, below: str, above: list[str], rows: bool, left_out: list[str]) -> Iterator[tuple[Path, str]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror or error}") from None
    folders = []
    for name in names:
        path, shown = folder / name, f"{below}{name}"
        if path.is_dir():
            if not _aside(shown, False, left_out):
                folders.append((path, shown))
        elif _aside(shown, rows, left_out):
            continue
        elif is_secret_name(shown):
            left_out.append(f"{printable(shown)}, whose name is that of a secret")
        else:
            need_file(path)
            yield path, shown
    for path, shown in folders:
        real = os.path.realpath(path)
        if path.is_symlink():
            _need_inside(path, real, above)
        yield from _walk(path, f"{shown}/", [*above, real], rows, left_out)


def _need_inside(path: Path, real: str, above: list[str]) -> None:
    if real in above:
        raise UserError(f"{path}: is a link to a folder it lies in", hint="Remove the link, or name the folder it leads to.")
    if not real.startswith(above[0].rstrip(os.sep) + os.sep):
        raise UserError(
            f"{path}: is a link to a folder outside of the data ({real})", hint="Name that folder itself, or copy its files here."
        )


def _aside(name: str, rows: bool, left_out: list[str]) -> bool:
    """Tell whether a file is left out: hidden ones never travel (.env among them), and a README holds no rows."""
    last = name.rpartition("/")[2]
    hidden = any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))
    if not hidden and not (rows and last.lower().startswith(_ASIDE)):
        return False
    left_out.append(printable(name))
    return True
