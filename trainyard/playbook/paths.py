"""Paths on a host as people write them: ``~`` and ``$NAME`` mean what they mean there, in the session that runs the task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from trainyard.errors import UserError
from trainyard.playbook.schema import Schema
from trainyard.remote.fed import with_hidden
from trainyard.remote.protocol import Transport, expect, with_environment

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


_HOMES: WeakKeyDictionary[Transport, str] = WeakKeyDictionary()
"""What ``~`` is at the other end of a connection; nothing that a task does there changes it."""


def expanded(schema: Schema, args: Mapping[str, object], t: Transport, environment: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments with their paths written out; the host is asked only when there is something to ask.

    A variable that the host does not have stays as it stands. Raises UserError for another user's ``~name``.
    """
    paths = {arg.name: str(args[arg.name]) for arg in schema.args if arg.kind == "path" and args.get(arg.name) is not None}
    for name, path in paths.items():
        if path.startswith("~") and path[1:2] not in ("", "/"):
            raise UserError(f"'{name}' of '{schema.action}': '{path.partition('/')[0]}' is not looked up: write the folder out")
    names = {first or second for path in paths.values() for first, second in _VARIABLE.findall(path)}
    names |= {"HOME"} if any(path.startswith("~") for path in paths.values()) else set()
    if not names:
        return dict(args)
    known = {"HOME": _HOMES[t]} if t in _HOMES and "HOME" not in environment else {}
    known |= _asked(sorted(names - set(known)), t, environment)
    if "HOME" in known and "HOME" not in environment:
        _HOMES[t] = known["HOME"]
    return {**args, **{name: _written_out(path, known) for name, path in paths.items()}}


def _asked(names: Sequence[str], t: Transport, environment: Mapping[str, object]) -> dict[str, str]:
    """Return the values of the variables that the host has."""
    if not names:
        return {}
    # "x" before each value tells one that is empty from one that is not there.
    shown = "printf '%s\\0' " + " ".join(f'"${{{name}+x}}${{{name}-}}"' for name in names)
    answer = expect(t.exec(*with_hidden(with_environment("", environment), shown)), t.name)
    return {
        name: value[1:].decode(errors="surrogateescape") for name, value in zip(names, answer.stdout.split(b"\0"), strict=False) if value
    }


def _written_out(path: str, full_paths: Mapping[str, str]) -> str:
    if path.startswith("~") and full_paths.get("HOME"):
        path = full_paths["HOME"] + path[1:]
    return _VARIABLE.sub(lambda match: full_paths.get(match[1] or match[2], match[0]), path)
