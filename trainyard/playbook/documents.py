"""Read YAML as playbooks have it: by the rules of YAML 1.1, as Ansible reads it, and opened where ansible-vault has encrypted the file."""

from __future__ import annotations

from pathlib import Path

from trainyard import yamlfile
from trainyard.errors import Location, UserError
from trainyard.playbook.vault import is_sealed, opened
from trainyard.secret import conceal
from trainyard.textfile import read_text


def load(path: Path) -> yamlfile.Node:
    """Read a file of a playbook. Raises UserError with file:line:col."""
    if path.is_fifo() and not path.is_relative_to("/dev"):  # a shell's <(...) is below /dev, and somebody writes into it
        raise UserError(f"{path} is a pipe, into which perhaps nobody writes: give a file")
    try:
        text = read_text(path, str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    return _parse(text, str(path))


def parse_map(text: str, name: str) -> yamlfile.Map:
    """Parse a text whose top level is a mapping; ``name`` is what errors call it."""
    return yamlfile.as_map(_parse(text, name), name)


def _parse(text: str, name: str) -> yamlfile.Node:
    sealed = is_sealed(text)
    # Numbers of JSON are numbers: 1e-05 is one.
    rules: yamlfile.Rules = "1.2" if name.endswith(".json") else "1.1"
    node = yamlfile.parse(opened(text, Location(name, 1)) if sealed else text, name, rules=rules)
    if sealed:
        _conceal(node)
    return node


def _conceal(node: yamlfile.Node) -> None:
    if isinstance(node, str):
        conceal(node)
    elif isinstance(node, (dict, list)):
        for item in node.values() if isinstance(node, dict) else node:
            _conceal(item)


def load_map(path: Path) -> yamlfile.Map:
    """Read a file whose top level is a mapping (an empty file is an empty mapping)."""
    return yamlfile.as_map(load(path), str(path))
