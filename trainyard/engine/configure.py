"""Make a stack, and write one of its settings: what a project needs before its first ``up``.

The settings file is the user's: one line of it is changed, comments and order stay.
"""

from __future__ import annotations

import re
from pathlib import Path

from trainyard.engine.backend import Backend, salt_of
from trainyard.engine.document import dump, parse
from trainyard.engine.hook import UserError, write_atomic
from trainyard.engine.project import Project, load_stack_file, salt_in
from trainyard.engine.secrets import Crypter, new_salt

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_CONFIG = re.compile(r"^config:[ \t]*(\{\}[ \t]*)?(#.*)?$", re.MULTILINE)


def init(backend: Backend, project: Project, stack: str, settings: Path, passphrase: str) -> None:
    """Make an empty stack; its salt stands in its state and, as after the CLI's ``stack init``, in its settings."""
    if not _NAME.fullmatch(stack):
        raise UserError(f"'{stack}' is no name for a stack: letters, digits, '.', '_' and '-', at most 100")
    known = salt_in(load_stack_file(settings))
    if known is not None:
        Crypter(passphrase, known)  # says so when the passphrase is another one
    salt = known or new_salt(passphrase)
    backend.create(project.name, stack, salt)
    if known is None:
        _write(settings, f"encryptionsalt: {salt}\n" + _text(settings))


def set_value(backend: Backend, project: Project, stack: str, settings: Path, key: str, value: str, passphrase: str | None) -> str:
    """Write a setting and return its full key; with a passphrase the value is encrypted."""
    full = key if ":" in key else f"{project.name}:{key}"
    if not re.fullmatch(r"[^\s:]+:[^\s:]+", full):
        raise UserError(f"'{key}' is no name for a setting: write it as name, or as namespace:name")
    state = backend.load(project.name, stack)  # says so where there is no such stack
    text = _text(settings)
    shown: object = value
    if passphrase is not None:
        salt = salt_in(load_stack_file(settings)) or salt_of(state)
        if salt is None:
            salt = new_salt(passphrase)
            text = f"encryptionsalt: {salt}\n" + text
        shown = {"secure": Crypter(passphrase, salt).encrypt(value)}
    _write(settings, _with(text, full, shown, settings))
    return full


def _with(text: str, key: str, value: object, path: Path) -> str:
    """Return a settings file's text with one setting set; a config that is not written as a block is refused."""
    document = parse(text, path.name) or {}
    config = document.get("config") if isinstance(document, dict) else None
    lines = dump({key: value}).splitlines()
    if not config:
        text = _CONFIG.sub("", text).strip("\n")
        return (text + "\n" if text else "") + "\n".join(["config:", *(f"  {line}" for line in lines)]) + "\n"
    head = _CONFIG.search(text)
    if head is None:
        raise UserError(f"{path}: 'config' must be written as a block of lines to be changed here")
    before, block = text[: head.end()].split("\n"), text[head.end() :].lstrip("\n").split("\n")
    first = next(line for line in block if line.strip() and not line.lstrip().startswith("#"))
    indent = first[: len(first) - len(first.lstrip())]
    block = _replaced(block, indent, key, [indent + line for line in lines])
    result = "\n".join([*before, *block]).rstrip("\n") + "\n"
    again = parse(result, path.name)
    updated = {**config, key: value} if isinstance(config, dict) else None
    if not isinstance(again, dict) or again.get("config") != updated:
        raise UserError(f"{path}: '{key}' stands there in a form that is not changed here; edit it by hand")
    return result


def _replaced(block: list[str], indent: str, key: str, new: list[str]) -> list[str]:
    """Return the lines with the key's own replaced, or with the new ones at the end of the block."""
    mine = re.compile(rf"""{re.escape(indent)}(["']?){re.escape(key)}\1[ \t]*:(?:\s|$)""")
    end = next((n for n, line in enumerate(block) if line.strip() and not line.startswith(("#", indent))), len(block))
    while end and not block[end - 1].strip():
        end -= 1
    start = next((n for n, line in enumerate(block[:end]) if mine.match(line)), None)
    if start is None:
        return [*block[:end], *new, *block[end:]]
    deeper = (f"{indent} ", f"{indent}\t", f"{indent}- ")
    stop = next((n for n in range(start + 1, end) if not block[n].startswith(deeper)), end)
    return [*block[:start], *new, *block[stop:]]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    write_atomic(path, text, durable=True)
