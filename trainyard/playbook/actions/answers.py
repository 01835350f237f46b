"""What the scripts of actions say of themselves: names and values, each ended by a NUL (``shell/answer.sh`` writes them)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from trainyard.playbook.steps import Outcome, Script
from trainyard.remote.protocol import CommandResult
from trainyard.shellscript import load

_FIELD = re.compile(rb"([a-z][a-z0-9_]*)([=#?*])(.*)", re.DOTALL)


def fields(done: CommandResult) -> Outcome:
    """Return the task's result: ``=`` a text, ``#`` a number, ``?`` yes or no, ``*`` one more item of a list."""
    result: Outcome = {"changed": False}
    for part in done.stdout.split(b"\0"):
        if match := _FIELD.fullmatch(part):
            name, text = match[1].decode(), match[3].decode(errors="backslashreplace")
            if match[2] == b"*":
                cast(list[str], result.setdefault(name, [])).append(text)
            else:
                result[name] = text if match[2] == b"=" else text == "1" if match[2] == b"?" else int(text or 0)
    if (owned := result.pop("owned", None)) is not None:
        result["diff"] = "".join(f"{line}\n" for line in cast(list[str], owned))
    return result


def script(
    name: str, values: Mapping[str, object], *,
    stdin: bytes | None = None, read: Callable[[CommandResult], Outcome] = fields, hidden: Sequence[str] = (), decides: bool = False,
) -> Script:  # fmt: skip
    """Return the script of this name with its values: yes and no as 1 and 0, lists a line each, what is not given empty."""
    plain = {key: _plain(value) for key, value in values.items()}
    unseen = {key: plain.pop(key) for key in hidden}
    return Script(load(__package__, name), plain, stdin, read, decides=decides, hidden=unseen)


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        return "\n".join(str(item) for item in value)
    return "" if value is None else value
