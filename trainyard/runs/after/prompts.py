"""Prompts that models are asked: a line each of a text, or rows with conversations and what a good answer would be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from trainyard.errors import UserError, together
from trainyard.recipes.data import user_error
from trainyard.recipes.forms import asked, sharegpt
from trainyard.recipes.rows import SUFFIXES, RowError, read_rows
from trainyard.textfile import expanded, read_text

Messages = list[dict[str, str]]
_TEXT = (".txt", ".md", "")
_ROLES = ("system", "user", "assistant")
_GOOD = {
    "prompt": ("reference", "completion"), "messages": ("reference",), "conversations": ("reference",),
    "instruction": ("reference", "output", "response"),
}  # fmt: skip
"""What asks in a row, by the names of the forms that recipe ``lora`` learns, and what may hold the good answer beside it."""
_SHOWN = 20
"""So many flaws are told at once."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One conversation that is to be answered; ``place`` is its file and line."""

    place: str
    messages: Messages
    reference: str | None = None
    """What a good answer would be."""


def load_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a file; raises UserError with file:line:col for all that is wrong in it."""
    name, file = str(path), expanded(path)
    suffix = PurePath(name).suffix.lower()
    if suffix not in (*_TEXT, *SUFFIXES):
        raise UserError(f"{name}: prompts are a text with one in each line, or rows ({', '.join(SUFFIXES)})")
    try:
        prompts = list(_rows(file, name) if suffix in SUFFIXES else _lines(file, name))
    except FileNotFoundError:
        raise UserError(f"{name}: there is no such file") from None
    if not prompts:
        raise UserError(f"{name}: holds no prompt", hint="A text has one in each line; a row has prompt, or messages.")
    return prompts


def _lines(file: Path, name: str) -> Iterator[Prompt]:
    for number, line in enumerate(read_text(file, name).splitlines(), 1):
        if line.strip():
            yield Prompt(f"{name}:{number}", [{"role": "user", "content": line.strip()}])


def _rows(file: Path, name: str) -> list[Prompt]:
    prompts, wrong = list[Prompt](), list[UserError]()
    try:
        with file.open("rb") as stream:
            for line, row in read_rows(stream, name, _understood):
                if isinstance(row, RowError):
                    wrong.append(user_error(row, name))
                else:
                    prompts.append(Prompt(f"{name}:{line}", *row))
                if len(wrong) == _SHOWN:
                    break
    except RowError as error:
        wrong.append(user_error(error, name))
    if wrong:
        raise together(wrong, "prompts")
    return prompts


def _understood(row: Any) -> tuple[Messages, str | None]:
    """Return conversation and reference of a row; raises ValueError for what is no prompt."""
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise ValueError("a prompt is a text or an object with prompt, messages or instruction")
    named = [name for name in _GOOD if row.get(name) is not None]
    if len(named) != 1:
        raise ValueError(f"a row has one of {', '.join(_GOOD)}; this one has {', '.join(map(str, row)) or 'nothing'}")
    good = [name for name in _GOOD[named[0]] if row.get(name) is not None]
    if len(good) > 1:
        raise ValueError(f"{' and '.join(good)} are both given: which of the two is the good answer?")
    reference = _text(row[good[0]], good[0]) if good else None
    messages = _messages(_turns(row, named[0]), named[0])
    if row.get("system"):
        messages = [{"role": "system", "content": _text(row["system"], "system")}, *messages]
    if len(messages) > 1 and messages[-1]["role"] == "assistant":
        if reference is not None:
            raise ValueError("messages end with an answer, and there is a reference: which of the two is the good answer?")
        reference = messages.pop()["content"]
    if messages[-1]["role"] != "user":
        raise ValueError("there is no message of the user to be answered")
    return messages, reference


def _turns(row: Mapping[str, Any], name: str) -> object:
    """Return the conversation as recipe ``lora`` would make it of the row; raises ValueError for what it would refuse."""
    if name == "prompt":
        return [{"role": "user", "content": _text(row[name], name)}]
    if name == "instruction":
        return list(asked(row))
    return sharegpt(row[name]) if name == "conversations" else row[name]


def _messages(value: object, name: str) -> Messages:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list with at least one message")
    return [_message(each, f"{name}[{at}]") for at, each in enumerate(value)]


def _message(value: object, where: str) -> dict[str, str]:
    role = value.get("role") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or role not in _ROLES:
        raise ValueError(f"{where}.role must be {', '.join(_ROLES)}")
    return {"role": str(role), "content": _text(value.get("content"), f"{where}.content")}


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} must be text")
    return value
