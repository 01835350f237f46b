"""ROUGE, the figures by which summaries are compared with those that a person wrote. Standard library only.

As the package rouge-score counts them without stemming, but for words: letters and digits of any script, not of ASCII alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

FIGURES = ("rouge1", "rouge2", "rougeL")
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*")


def score(reference: str, summary: str) -> dict[str, float]:
    """Return F1 of the words, of the pairs of words and of the longest common sequence of words, each from 0 to 1."""
    aim, said = words(reference), words(summary)
    figures = {f"rouge{size}": _f1(_shared(aim, said, size), len(said) - size + 1, len(aim) - size + 1) for size in (1, 2)}
    return figures | {"rougeL": _f1(_longest_common(aim, said), len(said), len(aim))}


def mean(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each figure, rounded to what a page shows."""
    rows = list(scores)
    return {name: round(math.fsum(row[name] for row in rows) / len(rows), 4) for name in FIGURES} if rows else {}


def lead(text: str, sentences: int = 3) -> str:
    """Return how a text begins: the summary that needs no model, and that is hard to beat with news."""
    return " ".join([part for part in _SENTENCE.split(text.strip()) if part][:sentences])


def words(text: str) -> list[str]:
    """Return the words that are compared."""
    return _WORD.findall(text.lower())


def _shared(aim: Sequence[str], said: Sequence[str], size: int) -> int:
    first, second = (Counter(tuple(each[at : at + size]) for at in range(len(each) - size + 1)) for each in (aim, said))
    return sum((first & second).values())


def _longest_common(aim: Sequence[str], said: Sequence[str]) -> int:
    before = [0] * (len(said) + 1)
    for word in aim:
        row = [0]
        for at, other in enumerate(said):
            row.append(before[at] + 1 if word == other else max(before[at + 1], row[at]))
        before = row
    return before[-1]


def _f1(shared: int, said: int, aim: int) -> float:
    return 2 * shared / (said + aim) if shared else 0.0
