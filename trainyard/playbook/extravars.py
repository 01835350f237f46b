"""Variables from the command line: ``NAME=VALUE``, a mapping, or ``@FILE``; what they say may be an expression."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.playbook import documents
from trainyard.playbook.hosts.varfiles import compiled, variables_in
from trainyard.playbook.values import Value, compile_value

_HERE = "--extra-vars"


def extra_vars(texts: Iterable[str]) -> dict[str, Value]:
    """Return the variables of all texts, a later one winning. Raises UserError for one that is none."""
    variables: dict[str, Value] = {}
    for text in texts:
        if text.startswith("@"):
            variables |= variables_in(Path(text[1:]).expanduser())
        elif text.lstrip().startswith("{"):
            variables |= _mapping(text)
        else:
            variables |= {name: compile_value(value, Location(_HERE, 1)) for name, value in _pairs(text).items()}
    return variables


def _mapping(text: str) -> dict[str, Value]:
    values = documents.parse_map(text, _HERE)
    if not all(name.isidentifier() for name in values):
        raise UserError(f"{_HERE}: expected a mapping of variable names to values")
    return compiled(values)


def _pairs(text: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` or several of them as a shell would split them; one value may hold spaces as it stands. All are texts."""
    name, equals, value = text.partition("=")
    try:
        words = shlex.split(text)
    except ValueError:
        words = [text]
    pairs = [word.partition("=") for word in words]
    if len(pairs) > 1 and all(key.isidentifier() and mark for key, mark, _ in pairs):
        return {key: item for key, _, item in pairs}
    if len(pairs) > 1 and any(key.isidentifier() and mark for key, mark, _ in pairs[1:]):
        raise UserError(f"{_HERE}: write one -e for each variable whose value holds a space: {text!r}")
    if not equals or not name.isidentifier():
        raise UserError(f"{_HERE}: expected NAME=VALUE, a mapping or @file, found '{text}'")
    return {name: pairs[0][2] if len(pairs) == 1 else value}
