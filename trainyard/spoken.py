"""The name of the command that a person typed: sources and pages write `invoke VERB`, a person reads what he can type."""

from __future__ import annotations

import re

_COMMAND = re.compile(r"(?<![\w./-])invoke (?=-|[a-z])")
_typed = "invoke"


def typed(program: str) -> None:
    """Remember the name under which this process was started, that of Invoke or our own."""
    global _typed
    _typed = program


def spoken(text: str) -> str:
    """Return a message with the commands in it as they can be typed here."""
    return text if _typed == "invoke" else _COMMAND.sub(f"{_typed} ", text)
