"""A value that must not be shown: its repr, str and format are ``***``."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

SECRET_NAMES = (
    "TOKEN", "*_TOKEN", "*_KEY", "*_KEYS", "*APIKEY", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*CREDENTIAL*",
)  # fmt: skip
"""What variables with a secret in them are called, as patterns of a shell."""
_PUBLIC = "*PUBLIC_KEY"
_SHORTEST = 8
"""Shorter texts occur by chance: they are not taken out of messages."""
_known: set[str] = set()


class Secret:
    """Hold a secret text; ``reveal()`` is the only way to read it, and no message of ours shows it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        if len(value) >= _SHORTEST:
            _known.add(value)

    def reveal(self) -> str:
        """Return the clear text. Call it only where the text leaves for its audience."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is never pickled: reveal() it where it is needed")


def names_secret(variable: str) -> bool:
    """Tell whether a variable is called as those are which hold a secret, in whatever case."""
    name = variable.upper()
    return not fnmatchcase(name, _PUBLIC) and any(fnmatchcase(name, pattern) for pattern in SECRET_NAMES)


def redact(text: str, secrets: list[Secret]) -> str:
    """Replace every occurrence of the secrets (4 characters or longer) in the text by ``***``."""
    values = sorted((s.reveal() for s in secrets if len(s.reveal()) >= 4), key=len, reverse=True)
    for value in values:
        text = text.replace(value, "***")
    return text


def conceal(text: str) -> None:
    """Take a text out of all that is shown from here on: as a whole, each of its lines, and as JSON writes it."""
    for form in {text, text.strip(), *text.splitlines(), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}:
        Secret(form)


def hide(text: str) -> str:
    """Replace every secret that this process has read by ``***``: for what another's message or page may have carried in."""
    for value in sorted(_known, key=len, reverse=True):
        if value in text:
            text = text.replace(value, "***")
    return text
