"""A run as one content-addressed folder: rendered scripts, config, locks, the pod's watchdog, ``run.sh``, sha256 list.

The same recipe, values and data give the same bytes on any machine. Data are references (data.json,
data.sha256); their paths at home never enter the bundle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trainyard
from trainyard import templating
from trainyard.errors import UserError
from trainyard.pod.boot import watchdog_source
from trainyard.recipes import code as own_code
from trainyard.recipes import requirements
from trainyard.recipes.code import Code
from trainyard.recipes.contract import Recipe
from trainyard.recipes.data import Data, hub_reference
from trainyard.recipes.declaration import DECLARED, declaration
from trainyard.recipes.requirements import Requirements
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import artefacts_of, beside_of, python_of
from trainyard.recipes.variables import FILES

SHA256_LIST = "bundle.sha256"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished bundle; ``sha256`` is that of its bundle.sha256, which names every file."""

    dir: Path
    sha256: str
    files: tuple[str, ...]


def refuse_full(folder: Path) -> None:
    """Raise UserError for what is there and is no empty folder; nothing is written."""
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not an empty folder", hint="Name one that is not there yet: it is made.")


def build(
    recipe: Recipe, values: Values, data: Data, dest: Path, *, code: Code | None = None, versions: Mapping[str, str] | None = None
) -> Bundle:
    """Write the bundle into ``dest``, which must be empty or absent; ``versions`` is kept in recipe.json.

    ``code`` is the person's own that goes along; raises UserError when it has changed since it was looked at.
    """
    refuse_full(dest)
    dest.mkdir(parents=True, exist_ok=True)
    needs = requirements.of_run(code, values)
    values = _take_files(recipe, values, dest, code)
    requirements.place(needs, dest)
    _write_json(dest / "config.json", values)
    _write_data(data, dest)
    packages = [needs.describe()] if needs else []
    _write_json(dest / DECLARED, declaration(recipe, values, versions or {"trainyard": trainyard.__version__}, packages))
    known = _names(recipe, values, data, code, needs)
    for name in recipe.files:
        _render(recipe.folder, name, dest / Path(name).name.removesuffix(".j2"), known)
    program = recipe.shared("run.sh.j2")
    _render(program.parent, program.name, dest / "run.sh", known)
    if data.kind == "hf":
        shutil.copyfile(recipe.shared("fetch.py"), dest / "fetch.py")
    for name in recipe.modules:
        shutil.copyfile(Path(__file__).with_name(name), dest / name)
    if recipe.locks or needs:
        shutil.copyfile(recipe.shared("installer.lock"), dest / "installer.lock")
        for kind, lock in recipe.locks.items():
            shutil.copyfile(lock, dest / f"{kind}.lock")
        if beside := beside_of(recipe, values):
            shutil.copyfile(recipe.folder / beside, dest / beside)
    (dest / "watchdog.py").write_text(watchdog_source(), encoding="utf-8")
    return _seal(dest)


def place_data(data: Data, folder: Path) -> None:
    """Copy local data into ``folder``, so that a rendered bundle runs by hand; other data the bundle fetches itself."""
    for item in data.files if data.kind in ("file", "folder") else ():
        target = folder / item.dest
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.src, target)


def _take_files(recipe: Recipe, values: Values, dest: Path, code: Code | None) -> Values:
    taken = dict(values)
    taken |= {variable.name: own_code.FOLDER if code else None for variable in recipe.variables if variable.kind == "folder"}
    if code:
        own_code.place(code, dest)
    for variable in recipe.variables:
        value = values[variable.name]
        if variable.kind not in FILES or value is None:
            continue
        target = dest / "files" / Path(str(value)).name
        if target.exists():
            raise UserError(f"{variable.name}: two files of this run are called {target.name}")
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(str(value), target)
        target.chmod(0o755)
        taken[variable.name] = f"files/{target.name}"
    return taken


def _names(recipe: Recipe, values: Values, data: Data, code: Code | None, needs: Requirements | None) -> dict[str, object]:
    program, _, arguments = recipe.command.partition(" ")
    line = f'"$PYTHON" {arguments}' if program == "python" else recipe.command
    words = values.get("command")
    reserved: dict[str, object] = {
        "recipe": recipe.name,
        "program": recipe.command,
        "program_line": line,
        "shown": shlex.join(words) if isinstance(words, list) else recipe.command,
        "with_code": code is not None,
        "packages": needs,
        "install": [shlex.join(words) for words in requirements.install_arguments(needs)] if needs else [],
        "locks": sorted(recipe.locks),
        "beside": beside_of(recipe, values),
        "env": dict(recipe.env),
        "exit_codes": list(recipe.verdict.exit_codes),
        "stopped": list(recipe.verdict.stopped),
        "artefacts": artefacts_of(recipe, values),
        "python_wanted": python_of(recipe),
        "data": data.describe(),
        "fetch": data.kind == "hf",
        "device": values.get("device", "auto"),
        "imports": sorted({name.partition(".")[0] for name in recipe.imports}),
        "values": values,
    }
    return {**values, **reserved}


def _write_data(data: Data, dest: Path) -> None:
    files = [{"dest": item.dest, "sha256": item.sha256, "bytes": item.bytes} for item in data.files]
    hub = hub_reference(data.reference) if data.kind == "hf" and data.reference else None
    _write_json(dest / "data.json", {"kind": data.kind, "form": data.form, "rows": data.rows, "files": files, "hub": hub})
    lines = [f"{item.sha256}  {item.dest}\n" for item in data.files if item.sha256]
    (dest / "data.sha256").write_text("".join(lines), encoding="utf-8")


def _render(folder: Path, name: str, target: Path, known: Mapping[str, object]) -> None:
    if name.endswith(".j2"):
        target.write_text(templating.render_file(folder, name, known), encoding="utf-8")
    else:
        shutil.copyfile(folder / name, target)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _seal(dest: Path) -> Bundle:
    names = sorted(Path(root, name).relative_to(dest).as_posix() for root, _, files in os.walk(dest) for name in files)
    lines = [_line(hashlib.sha256((dest / name).read_bytes()).hexdigest(), name) for name in names]
    listing = "".join(lines).encode()
    (dest / SHA256_LIST).write_bytes(listing)
    return Bundle(dest, hashlib.sha256(listing).hexdigest(), (*names, SHA256_LIST))


def _line(digest: str, name: str) -> str:
    """Return a line as sha256sum writes and reads it: a backslash in a name is doubled, and one begins the line."""
    return f"\\{digest}  {name.replace(chr(92), chr(92) * 2)}\n" if "\\" in name else f"{digest}  {name}\n"
