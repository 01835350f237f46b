"""Rows that teach nothing: too short, too long, hardly a letter in them, the same over and over."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from columns import WrongSetting

_SPAN = 20_000
"""Characters at the beginning of a text by which it is judged."""
_FEW = 40
_PHRASE = 4


class QualityFilter:
    """Judge texts by the settings of a build."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._least, self._most = config["min_chars"], config["max_chars"]
        self._letters, self._repeated = config["min_letters"], config["max_repetition"]
        self._matching = [_compiled(pattern) for pattern in config["drop_matching"]]

    def problem(self, text: str) -> str | None:
        """Return why a row is dropped, None where it stays."""
        size = len(text.strip())
        if size < self._least:
            return "shorter than min_chars"
        if size > self._most:
            return "longer than max_chars"
        begin = text[:_SPAN]
        if self._letters and _letters(begin) < self._letters:
            return "fewer letters than min_letters"
        if self._repeated < 1 and repetition(begin) > self._repeated:
            return "more repetition than max_repetition"
        found = next((pattern.pattern for pattern in self._matching if pattern.search(text)), None)
        return f"matches drop_matching: {found}" if found is not None else None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise WrongSetting(f"drop_matching: {pattern!r} is no regular expression: {error}") from None


def _letters(text: str) -> float:
    signs = "".join(text.split())
    return sum(map(str.isalpha, signs)) / len(signs) if signs else 0.0


def repetition(text: str) -> float:
    """Return the share of a text that it has said before: lines, or phrases of a few words."""
    lines = [line for line in (each.strip() for each in text.split("\n")) if len(line) > 2]
    words = text.split()
    if len(words) < _FEW and len(lines) < _FEW:
        return 0.0
    phrases = list(zip(*(words[at:] for at in range(_PHRASE)), strict=False))
    return max(_again(lines) if len(lines) >= _PHRASE else 0.0, _again(phrases))


def _again(items: Sequence[Any]) -> float:
    counts = Counter(items)
    return (len(items) - len(counts)) / len(items) if items else 0.0
