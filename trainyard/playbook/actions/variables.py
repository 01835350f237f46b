"""include_vars: variables from files of this machine, read when the task has its turn."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.entries import Mistakes, read_vars
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import SetFacts, Step
from trainyard.playbook.values import Value, Variables
from trainyard.textfile import expanded

INCLUDE_VARS = Schema(
    "include_vars",
    (
        Arg("file", local="vars"), Arg("dir", local="vars"), Arg("name", "name"), Arg("depth", "int"), Arg("files_matching"),
        Arg("ignore_files", "words"), Arg("extensions", "words"), Arg("ignore_unknown_extensions", "bool"),
        Arg("hash_behaviour", choices=("replace",)),
    ),
    free="file",
    one_of=(("file", "dir"),),
    does="read variables from a file, or from all files of a folder; weaker than what is registered",
)  # fmt: skip


def include_vars(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Keep what the files hold as variables of this host, below ``name`` where one is given."""
    wrong, values = Mistakes(), dict[str, Value]()
    if "file" in args:
        values |= read_vars(folder / expanded(str(args["file"])), wrong)
    else:
        for path in _files(folder / expanded(str(args["dir"])), args):
            values |= read_vars(path, wrong)
    wrong.raise_all()
    if "name" in args:
        return SetFacts({str(args["name"]): {name: value.render(variables) for name, value in values.items()}}, weak=True)
    return SetFacts(values, weak=True)


def _files(top: Path, args: Mapping[str, object]) -> list[Path]:
    """Return the files of a folder in the order of their names; raises UserError for one that is no file of variables."""
    if not os.path.isdir(top):
        raise UserError(f"'include_vars': there is no folder {top}")
    depth, matching = int(str(args.get("depth", 0))), args.get("files_matching")
    endings, ignored = args.get("extensions") or ["yaml", "yml", "json"], args.get("ignore_files") or []
    assert isinstance(endings, list) and isinstance(ignored, list)
    files = []
    for path in sorted(path for path in top.rglob("*") if path.is_file()):
        below = path.relative_to(top)
        if (depth and len(below.parts) > depth) or any(re.search(f"{pattern}$", path.name) for pattern in ignored):
            continue
        if matching is not None and not re.search(str(matching), path.name):
            continue
        if path.suffix.removeprefix(".") in endings:
            files.append(path)
        elif not args.get("ignore_unknown_extensions") and matching is None:
            raise UserError(f"'include_vars': {path} ends in none of {', '.join(endings)}: say ignore_unknown_extensions, or ignore_files")
    return files
