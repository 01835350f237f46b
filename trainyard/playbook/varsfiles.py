"""Files of variables that a play names: those whose name is an expression are found when the play begins on a host."""

from __future__ import annotations

import os
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.playbook.entries import Entry, Mistakes, read_vars
from trainyard.playbook.model import Play, Vars, VarsFile
from trainyard.playbook.values import Literal, Value, Variables, compile_value
from trainyard.textfile import expanded


def vars_files(entry: Entry, folder: Path) -> tuple[VarsFile, ...]:
    """Return the files that a play names; what those hold whose names are known."""
    node = entry.node.get("vars_files")
    if isinstance(node, str):
        return (_vars_file([node], entry.at("vars_files"), folder, entry.wrong),)
    files = []
    for item, place in entry.items("vars_files"):
        names = item if isinstance(item, list) else [item]
        if all(isinstance(name, str) for name in names) and names:
            files.append(_vars_file([str(name) for name in names], place, folder, entry.wrong))
        else:
            what = "an item of vars_files is a file's name, or a list of names: the first that is there counts"
            entry.wrong.add(UserError(what, where=place))
    return tuple(files)


def files_of(play: Play, variables: Variables) -> Vars:
    """Return the variables of all files, a later one winning. Raises UserError where one is not there, or wrong."""
    values: dict[str, Value] = {}
    for file in play.vars_files:
        values |= _read(file, {**variables, **values}) if file.known is None else file.known
    return values


def _read(file: VarsFile, variables: Variables) -> Vars:
    names = [str(name.render(variables)) for name in file.names]
    path, wrong = _first(names, file.folder), Mistakes()
    if path is None:
        raise _missing(names, file.folder, file.names[0].where)
    values = read_vars(path, wrong)
    wrong.raise_all()
    return values


def _vars_file(names: list[str], where: Location | None, folder: Path, wrong: Mistakes) -> VarsFile:
    compiled = tuple(compile_value(name, where) for name in names)
    if not all(isinstance(name, Literal) for name in compiled):
        return VarsFile(compiled, folder)
    path = _first(names, folder)
    if path is None:
        wrong.add(_missing(names, folder, where))
    return VarsFile(compiled, folder, read_vars(path, wrong) if path is not None else {})


def _first(names: list[str], folder: Path) -> Path | None:
    """Return the first file that is there: below ``vars`` of the folder, or in it."""
    places = [place / expanded(name) for name in names for place in (folder / "vars", folder)]
    return next((path for path in places if os.path.isfile(path)), None)


def _missing(names: list[str], folder: Path, where: Location | None) -> UserError:
    return UserError(f"there is no file {' or '.join(str(folder / name) for name in names)}", where=where)
