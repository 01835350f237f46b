"""Find a role and read its values: roles/NAME/{tasks,handlers,defaults,vars,meta}/main.yml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.playbook import documents
from trainyard.playbook.entries import Entry, Mistakes, mapping, read_vars
from trainyard.playbook.model import Role, Vars
from trainyard.playbook.scope import Scope
from trainyard.textfile import expanded
from trainyard.yamlfile import Map, Seq

_ENDINGS = (".yml", ".yaml", ".json", "")


def find_role(name: str, scope: Scope, where: Location | None) -> Path | None:
    """Return the folder of a role; a mistake where there is none."""
    around = (scope.role.path.parent,) if scope.role else ()
    places = (*around, scope.playbook / "roles", scope.playbook, scope.folder / "roles", Path("roles"), Path("playbooks/roles"))
    folder = next((path for place in places if os.path.isdir(path := place / expanded(name))), None)
    if folder is None:
        folders = [place for place in (*around, scope.playbook / "roles", Path("roles"), Path("playbooks/roles")) if place.is_dir()]
        there = [path.name for folder in folders for path in sorted(folder.iterdir())]
        looked = ", ".join(dict.fromkeys(str(place) for place in (*around, scope.playbook / "roles", Path("roles"))))
        hint = "Put its folder there: roles are not downloaded." if not suggest(name, there) else None
        scope.wrong.add(UserError(f"there is no role '{name}' in {looked}{suggest(name, there)}", where=where, hint=hint))
    return folder


def part(role: Path, folder: str, name: str | None = None) -> Path | None:
    """Return a file of a role's folder (``main`` unless named), None where there is none."""
    file = role / folder / (name or "main")
    return next((path for ending in _ENDINGS if os.path.isfile(path := Path(f"{file}{ending}"))), None)


def named_part(role: Path, folder: str, args: Mapping[str, object], scope: Scope, where: Location | None) -> Path | None:
    """Return the file that ``FOLDER_from`` names, else main; a mistake where one that is named is not there."""
    name = args.get(f"{folder}_from")
    file = part(role, folder, None if name is None else str(name))
    if file is None and name is not None:
        scope.wrong.add(UserError(f"there is no file {role / folder / str(name)}", where=where))
    return file


def values(role: Path, folder: str, args: Mapping[str, object], scope: Scope, where: Location | None) -> Vars:
    """Return defaults or vars of a role; ``main`` may be a folder of several files."""
    split = role / folder / "main"
    if f"{folder}_from" not in args and split.is_dir():
        files = sorted(path for path in split.rglob("*") if path.is_file() and path.suffix in _ENDINGS)
        return {name: value for path in files for name, value in read_vars(path, scope.wrong).items()}
    path = named_part(role, folder, args, scope, where)
    return {} if path is None else read_vars(path, scope.wrong)


def meta(role: Path, wrong: Mistakes) -> Entry:
    """Return what meta/main.yml says; nothing where there is none."""
    path = part(role, "meta")
    with wrong.gathered():
        document = documents.load(path) if path is not None else None
        if path is not None and document is not None:
            return Entry(mapping(document, Location(str(path), 1), "meta/main.yml"), wrong)
    return Entry(Map(), wrong)


def uses(entry: Entry, key: str) -> list[Entry]:
    """Return the roles of a list, each as a mapping: a plain name is one with nothing beside it."""
    entries: list[Entry] = []
    listed = entry.node.get(key)
    for index, (item, place) in enumerate(entry.items(key)):
        if isinstance(item, str) and isinstance(listed, Seq):
            use = Map()
            use.source, use.mark = listed.source, listed.item_marks[index]
            use["role"] = item
            entries.append(Entry(use, entry.wrong))
            continue
        with entry.wrong.gathered():
            entries.append(Entry(mapping(item, place, "a role"), entry.wrong))
    return entries


def joined(role: Role, around: Role | None, needed: tuple[Role, ...]) -> Role:
    """Return a role with what holds in it of those that it depends on, and of the one that depends on it."""
    layers = (*needed, *((around,) if around else ()), role)
    return Role(
        role.name, role.path,
        {name: value for layer in layers for name, value in layer.defaults.items()},
        {name: value for layer in layers for name, value in layer.vars.items()},
        {name: value for layer in layers[len(needed) :] for name, value in layer.params.items()},
        around,
    )  # fmt: skip
