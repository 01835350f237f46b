"""Several clouds are asked one thing at once: one that is slow, down or broken never hides the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, Queue
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


def ask_all(
    questions: Mapping[str, Callable[[], T]], patience: float = PATIENCE, grace: float | None = None
) -> dict[str, CloudAnswer[T]]:  # fmt: skip
    """Return the answer to each question under its name, in their order; never raises for what a cloud says or does not say.

    ``patience``: seconds after which a cloud that has not answered counts as silent. ``grace``: so many seconds after an answer
    nobody else is waited for any more. The others' answers are not waited for longer than it takes them.
    """
    came: Queue[tuple[str, CloudAnswer[T]]] = Queue()
    for name, question in questions.items():
        # A daemon: who gave up on a cloud does not wait for it at the end of the process either.
        threading.Thread(target=lambda name=name, question=question: came.put((name, _answer(question))), daemon=True).start()
    began, answers = time.monotonic(), dict[str, CloudAnswer[T]]()
    until = began + patience
    while len(answers) < len(questions):
        try:
            name, answer = came.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            break
        answers[name] = answer
        if grace is not None and answer.problem is None:
            until = min(began + patience, time.monotonic() + grace)
    waited = time.monotonic() - began
    left = patience - waited > 0.05
    problem = (
        f"no answer within {waited:.1f} s, and the others are there (--wait {patience:g})" if left else f"no answer within {patience:g} s"
    )
    silent: CloudAnswer[T] = CloudAnswer(problem=problem, seconds=waited)
    return {name: answers.get(name, silent) for name in questions}


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
