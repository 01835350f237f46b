"""Memories: what a row tells of its time and its tags, and how a memory becomes a row that is learnt."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import forms
from columns import WrongSetting

_TIMES = ("timestamp", "created_at", "create_time", "created", "datetime", "date", "time", "updated_at")
_TAGS = ("tags", "tag", "labels", "topics", "categories", "category")
_NAMES = ("entities", "entity", "people")
_SAID = ("content", "memory", "note")
_MILLISECONDS = 1e11
_BY_ENTITY = (
    "What do you remember about {entity}?",
    "Tell me about {entity}.",
    "What happened with {entity}?",
    "What comes to mind when you think of {entity}?",
)
_BY_TAG = (
    "What do you remember about {tag}?",
    "Tell me something about {tag}.",
    "What was on your mind about {tag}?",
)
_BY_DATE = (
    "What happened on {date}?",
    "What do you remember of {date}?",
    "What was on your mind on {date}?",
)
_ALONE = ("What do you remember?", "Tell me something you remember.", "What is on your mind?")
_PLACE = re.compile(r"\{(\w+)\}")


def is_memory(fields: Mapping[str, Any]) -> bool:
    """Tell whether a row is a memory: it says something, and is no message of a conversation."""
    return "role" not in fields and any(isinstance(fields.get(name), str) for name in _SAID)


def content_of(fields: Mapping[str, Any]) -> str:
    """Return what a memory says. Raises RowFlaw."""
    said = next(str(fields[name]) for name in _SAID if isinstance(fields.get(name), str))
    if not said.strip():
        raise forms.RowFlaw("the memory says nothing: its 'content' is empty")
    return said


def time_of(fields: Mapping[str, Any]) -> tuple[float | None, bool]:
    """Return when a row was written, in seconds, and whether it says a time that cannot be understood."""
    for name in _TIMES:
        if (value := fields.get(name)) not in (None, ""):
            at = _seconds(value)
            return at, at is None
    return None, False


def _seconds(value: Any) -> float | None:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _written(value.strip())
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        return None
    seconds = value / 1000 if value > _MILLISECONDS else float(value)
    return seconds if seconds < _MILLISECONDS else None


def _written(text: str) -> float | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        return None


def tags_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tags of a row, each once."""
    return _words(fields, _TAGS)


def _words(fields: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if fields.get(name):
            return tuple(dict.fromkeys(_listed(fields[name])))
    return ()


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        if value.lstrip()[:1] == "[":
            try:
                return _listed(json.loads(value))
            except (ValueError, RecursionError):
                pass
        return [word.strip() for word in re.split(r"[,;|]", value) if word.strip()]
    if isinstance(value, Mapping):  # {"person": ["Ada"], "place": "London"}, or one entity
        named = value.get("name") or value.get("text")
        return [named.strip()] if isinstance(named, str) else [word for item in value.values() for word in _listed(item)]
    if isinstance(value, (list, tuple)):
        return [word for item in value for word in ([item.strip()] if isinstance(item, str) else _listed(item)) if word]
    return []


class Asker:
    """Make rows of memories: who speaks, and what is asked."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._instruction = config["instruction"].replace("{persona}", config["persona"])
        self._own, self._seed = config["questions"], config["seed"]
        for template in [self._instruction, *self._own]:
            if wrong := set(_PLACE.findall(template)) - {"entity", "tag", "date"}:
                raise WrongSetting(f"{template!r}: {{{min(wrong)}}} stands for nothing; known: entity, tag, date; persona in instruction")

    def row(self, content: str, fields: Mapping[str, Any], at: float | None) -> dict[str, Any]:
        """Return a memory as a row of instruction, input and output."""
        known = {"entity": _words(fields, _NAMES), "tag": tags_of(fields), "date": _date(at)}
        draw = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=16, key=str(self._seed).encode()).digest(), "big")
        template, draw = _drawn(self._fitting(known), draw)
        words = {}
        for name, values in known.items():
            words[name], draw = _drawn(values or ("",), draw)
        question = _PLACE.sub(lambda match: words[match[1]], template)
        return {"instruction": _PLACE.sub(lambda match: words[match[1]], self._instruction), "input": question, "output": content}

    def _fitting(self, known: Mapping[str, Sequence[str]]) -> Sequence[str]:
        """Return the templates for which the memory has the words."""
        fitting = [each for each in self._own if all(known[name] for name in _PLACE.findall(each))]
        if fitting:
            return fitting
        return [
            *(_BY_ENTITY if known["entity"] else ()),
            *(_BY_TAG if known["tag"] else ()),
            *(_BY_DATE if known["date"] else ()),
        ] or _ALONE


def _date(at: float | None) -> tuple[str, ...]:
    if at is None:
        return ()
    day = datetime.fromtimestamp(at, UTC)
    return (f"{day:%B} {day.day}, {day.year}",)


def _drawn(choices: Sequence[str], draw: int) -> tuple[str, int]:
    return choices[draw % len(choices)], draw // len(choices)
