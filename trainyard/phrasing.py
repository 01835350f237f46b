"""The name of the command that a person typed: sources and pages write `invoke VERB`, a person reads what he can type."""

from __future__ import annotations

import re
from collections.abc import Iterable

TYPED = "TRAINYARD_TYPED"
"""Environment variable by which `./bootstrap` hands its name on to what it starts."""
_INVOKE = "invoke"
_typed = _INVOKE
_commands = re.compile(r"(?!)")


def typed(program: str, verbs: Iterable[str] = ()) -> None:
    """Remember the name under which this process was started, and the verbs behind it."""
    global _typed, _commands
    known = "|".join(map(re.escape, sorted(verbs, key=len, reverse=True)))
    # Only a verb or an option: `invoke` is also a word of Pulumi's.
    _typed, _commands = program, re.compile(rf"(?<![\w./-]){_INVOKE} (?=--|(?:{known})(?![\w-]))")


def as_typed(text: str) -> str:
    """Return a message with the commands in it as they can be typed here."""
    return text if _typed == _INVOKE else _commands.sub(f"{_typed} ", text)
