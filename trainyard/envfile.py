"""The file ``.env`` beside Pulumi.yaml: keys of yours, a line each. What is written here is read here.

Who writes keeps every other line and comment as it stands, and no name twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.filelock import hold_lock
from trainyard.files import write_atomic
from trainyard.textfile import read_text

_PIPE = 5.0
"""Seconds for a program that writes ``.env`` into a named pipe (a password manager) to do so."""
_LINE = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$")
_WITH_END = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+$")
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_REMARK = re.compile(r"""^(?:'[^']*'|"(?:[^"\\]|\\.)*"|.*?)(\s+\#.*|)$""")


def read_env_file(path: Path) -> dict[str, str]:
    """Parse a ``.env`` file: ``NAME=value``; a missing file is empty. See parse_env()."""
    try:
        return parse_env(read_text(path, path.name, patience=_PIPE), path.name)
    except FileNotFoundError:
        return {}


def parse_env(text: str, name: str) -> dict[str, str]:
    """Return the values of a text of ``NAME=value`` lines; raises UserError with its place for any other line.

    A value in quotes is taken whole (``'`` as it stands; in ``"`` a backslash keeps the next ``"`` or backslash). One
    without quotes is taken as it stands up to `` #``, which starts a comment; a ``#`` inside it belongs to it.
    """
    result: dict[str, str] = {}
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        # The text of the line is not shown: it may hold a secret.
        if not match:
            raise UserError("expected NAME=value", where=Location(name, number))
        value = _value(match[2])
        if value is None:
            hint = "A value with spaces stands in quotes; behind its last quote only a comment may follow."
            raise UserError(f"{match[1]}: its value cannot be read", where=Location(name, number), hint=hint)
        result[match[1]] = value
    return result


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Write values into a ``.env`` file that nobody but its owner can read (0600), in one step; a link stays one.

    Raises UserError for a file that cannot be read, one that a program writes anew for each reader (a pipe), and a value of
    several lines; then nothing is changed.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise UserError(f"{path.name} is no file: nothing can be written into it", hint="Put the keys where it gets them from.")
    with hold_lock(target.parent):
        try:
            text = read_text(target, path.name)
        except FileNotFoundError:
            text = ""
        before = parse_env(text, path.name)
        changed = changed_env(text, values)
        if parse_env(changed, path.name) != {**before, **values}:
            raise UserError(f"{path.name}: {', '.join(values)} cannot be written so that it is read again")
        write_atomic(target, changed, durable=True, mode=0o600)


def changed_env(text: str, values: Mapping[str, str]) -> str:
    """Return the text with these values: each in its line, where there is one, else at the end. Of a name's other lines none is left."""
    lines, left, end = [], dict(values), "\r\n" if "\r\n" in text else "\n"
    for line in _WITH_END.findall(text):
        match = _LINE.match(line.strip())
        if match is None or match[1] not in values:
            lines.append(line)
        elif match[1] in left:
            remark = _REMARK.match(match[2])
            head, name = ("export " if line.lstrip().startswith("export") else ""), match[1]
            lines.append(f"{head}{name}={_quoted(name, left.pop(name))}{remark[1] if remark else ''}{end}")
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    return "".join([*lines, *(f"{name}={_quoted(name, value)}{end}" for name, value in left.items())])


def _value(text: str) -> str | None:
    """Return the value that stands behind ``NAME=``, None for one that could be meant in two ways."""
    if text[:1] in ("'", '"'):
        quoted = _SINGLE.fullmatch(text) if text[0] == "'" else _DOUBLE.fullmatch(text)
        return None if quoted is None else quoted[1] if text[0] == "'" else re.sub(r'\\(["\\])', r"\1", quoted[1])
    plain = re.sub(r"(^|\s+)#.*", "", text)
    return None if re.search(r"\s", plain) else plain


def _quoted(name: str, value: str) -> str:
    if any(letter in value for letter in "\r\n\0"):
        raise UserError(f"{name}: a value of several lines cannot stand in .env", hint="Keep it in a file: NAME=file:/path/to/it")
    if _value(value) == value:
        return value
    if "'" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
