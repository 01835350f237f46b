"""Variables from the command line: ``NAME=VALUE``, a mapping, or ``@FILE``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainyard import yamlfile
from trainyard.errors import UserError
from trainyard.playbook.hosts.varfiles import variables_in


def extra_vars(texts: Iterable[str]) -> dict[str, object]:
    """Return the variables of all texts, a later one winning. Raises UserError for one that is none."""
    variables: dict[str, object] = {}
    for text in texts:
        if text.startswith("@"):
            variables |= variables_in(Path(text[1:]))
        elif text.lstrip().startswith("{"):
            variables |= _mapping(text)
        else:
            variables |= _pairs(text)
    return variables


def _mapping(text: str) -> dict[str, object]:
    value = yamlfile.parse(text, "--extra-vars")
    if not isinstance(value, Mapping) or not all(str(name).isidentifier() for name in value):
        raise UserError("--extra-vars: expected a mapping of variable names to values")
    return dict(value)


def _pairs(text: str) -> dict[str, object]:
    """Read ``NAME=VALUE`` or several of them as a shell would split them; one value may hold spaces as it stands."""
    name, equals, value = text.partition("=")
    try:
        words = shlex.split(text)
    except ValueError:
        words = [text]
    pairs = [word.partition("=") for word in words]
    if len(pairs) > 1 and all(key.isidentifier() and mark for key, mark, _ in pairs):
        return {key: yamlfile.parse(item, f"--extra-vars {key}") for key, _, item in pairs}
    if len(pairs) > 1 and any(key.isidentifier() and mark for key, mark, _ in pairs[1:]):
        raise UserError(f"--extra-vars: write one -e for each variable whose value holds a space: {text!r}")
    if not equals or not name.isidentifier():
        raise UserError(f"--extra-vars: expected NAME=VALUE, a mapping or @file, found '{text}'")
    return {name: yamlfile.parse(value, f"--extra-vars {name}")}
