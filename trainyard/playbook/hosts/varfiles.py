"""Files of variables beside an inventory or a playbook: group_vars/NAME and host_vars/NAME, a file or a folder of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainyard.playbook import documents
from trainyard.playbook.values import Value, compile_value
from trainyard.yamlfile import Map

_ENDINGS = ("", ".yml", ".yaml", ".json")


class VarFiles:
    """The group_vars and host_vars of one folder, each file read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[tuple[str, str], Mapping[str, Value]] = {}

    def group(self, name: str) -> Mapping[str, Value]:
        """Return what the files of a group say."""
        return self._of("group_vars", name)

    def host(self, name: str) -> Mapping[str, Value]:
        """Return what the files of a host say."""
        return self._of("host_vars", name)

    def _of(self, kind: str, name: str) -> Mapping[str, Value]:
        if (kind, name) not in self._read:
            values: dict[str, Value] = {}
            # A name with a slash in it would lead elsewhere.
            for ending in _ENDINGS if "/" not in name else ():
                for path in _files(self._folder / kind / f"{name}{ending}"):
                    values |= variables_in(path)
            self._read[kind, name] = values
        return self._read[kind, name]


def variables_in(path: Path) -> dict[str, Value]:
    """Return the variables of a YAML or JSON file, compiled; raises UserError with the place of what is wrong."""
    return compiled(documents.load_map(path))


def compiled(document: Map) -> dict[str, Value]:
    """Return the variables of a mapping, compiled; raises UserError with the place of what is wrong."""
    return {name: compile_value(value, document.where(name, value=True)) for name, value in document.items()}


def _files(path: Path) -> list[Path]:
    """Return the files that a name stands for: itself, or what a folder of that name holds, in the alphabet's order."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    inside = sorted(each for each in path.iterdir() if not each.name.startswith(".") and not each.name.endswith("~"))
    return [file for each in inside if each.is_dir() or each.suffix in _ENDINGS for file in _files(each)]
