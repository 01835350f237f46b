"""Several clouds are asked one thing at once: one that is slow, down or broken never hides the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trainyard.errors import TrainyardError, UserError, in_short
from trainyard.secret import hide

T = TypeVar("T")
PATIENCE = 15.0
"""Seconds that clouds have for their answers, all of them together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAnswer(Generic[T]):
    """What came of one question."""

    value: T | None = None
    problem: str | None = None
    """Why there is no value; None: there is one."""
    hint: str | None = None
    unready: bool = False
    """It was not asked: what it needs is not set."""
    seconds: float = 0.0


@dataclass(slots=True)
class _Asked(Generic[T]):
    thread: threading.Thread
    answers: list[CloudAnswer[T]] = field(default_factory=list)


def ask_all(questions: Mapping[str, Callable[[], T]], patience: float = PATIENCE) -> dict[str, CloudAnswer[T]]:
    """Return the answer to each question under its name, in their order; never raises for what a cloud says or does not say.

    ``patience``: seconds after which a cloud that has not answered counts as silent. The others' answers are not waited for longer
    than it takes them.
    """
    asked = {name: _start(question) for name, question in questions.items()}
    until = time.monotonic() + patience
    for one in asked.values():
        one.thread.join(max(0.0, until - time.monotonic()))
    silent: CloudAnswer[T] = CloudAnswer(problem=f"no answer within {patience:g} s", seconds=patience)
    return {name: one.answers[0] if one.answers else silent for name, one in asked.items()}


def _start(question: Callable[[], T]) -> _Asked[T]:
    # A daemon: who gave up on a cloud does not wait for it at the end of the process either.
    asked: _Asked[T] = _Asked(threading.Thread(target=lambda: asked.answers.append(_answer(question)), daemon=True))
    asked.thread.start()
    return asked


def _answer(question: Callable[[], T]) -> CloudAnswer[T]:
    began = time.monotonic()
    try:
        return CloudAnswer(value=question(), seconds=time.monotonic() - began)
    except UserError as error:
        return CloudAnswer(problem=error.message, hint=error.hint, unready=True, seconds=time.monotonic() - began)
    except TrainyardError as error:
        return CloudAnswer(problem=error.message, hint=error.hint, seconds=time.monotonic() - began)
    except Exception as error:
        # Whatever an adapter stumbles over, a user's own one too, is that cloud's trouble alone.
        return CloudAnswer(problem=hide(f"{type(error).__name__}: {in_short(error)}"), seconds=time.monotonic() - began)
