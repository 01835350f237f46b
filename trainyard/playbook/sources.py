"""Find files of this machine that a task names: in the role's folder, beside the task's file, beside the playbook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trainyard.playbook.schema import Schema
from trainyard.textfile import expanded


class _LocalPath(str):
    """A path that was found, which knows what the task calls it."""

    written = ""


def as_written(path: object) -> str:
    """Return a path as it stands in the task."""
    return path.written if isinstance(path, _LocalPath) else str(path)


def find_source(name: str, below: str, search: tuple[Path, ...]) -> Path | None:
    """Return the first that is there, whole; of each folder first what lies in its ``files``, ``templates`` or ``vars``."""
    path = expanded(name)
    folders = [folder.absolute() for folder in search]
    return next((place for folder in folders for place in (folder / below / path, folder / path) if os.path.exists(place)), None)


def located(schema: Schema, args: Mapping[str, object], search: tuple[Path, ...]) -> dict[str, object]:
    """Return the arguments with their local paths written out; one that is nowhere stays as it is."""
    paths: dict[str, object] = {}
    for arg in schema.args:
        value = args.get(arg.name)
        if arg.local and isinstance(value, str) and value and not args.get("remote_src") and args.get("copy") is not False:
            place = find_source(value, arg.local, search)
            if place is not None:
                place = place.absolute()  # else an action takes it from the task's folder once more
                paths[arg.name] = local = _LocalPath(f"{place}/" if value.endswith("/") else place)
                local.written = value
    return {**args, **paths}


def no_file(path: Path) -> str:
    """Say what lies at a path of this machine that is no file."""
    if path.is_dir():
        return f"{path} is a folder, not a file"
    return f"{path} is not a file (a pipe or a device?)" if path.exists() else f"there is no file {path}"
