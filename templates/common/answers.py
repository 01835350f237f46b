"""How an answer is asked for, and what came of it. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OnText = Callable[[str], None]


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; temperature 0 is the likeliest token each time."""

    tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came of it: ``finish`` is "stop" (an end of turn, a stop word) or "length"; times are seconds."""

    text: str
    finish: str
    prompt_tokens: int
    tokens: int
    first: float
    seconds: float


class Unanswerable(Exception):
    """A prompt is empty, or leaves no room for an answer."""
