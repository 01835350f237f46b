"""What a row of preferences means: a prompt with a good and a bad answer. Travels in the bundle beside forms.py.

Each of the two answers makes a row of its own with the prompt; what such a row means, forms.py says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ANSWERS = ("chosen", "rejected")


class Pair(NamedTuple):
    """The same prompt with the answer that is wanted and the one that is not, each as forms.py understands it."""

    chosen: Any
    rejected: Any

    @property
    def form(self) -> str:
        """The form of the row."""
        return "prompt/chosen/rejected"

    @property
    def unused(self) -> tuple[str, ...]:
        """Fields that nobody reads."""
        unused: tuple[str, ...] = self.chosen.unused
        return unused

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of the row."""
        return (*self.chosen.texts, *self.rejected.texts)


def understand_pair(fields: Any, understand: Callable[[Any], Any]) -> Pair:
    """Return what a row of preferences means; ``understand`` tells what a row of one answer does. Raises ValueError, as it does."""
    if not isinstance(fields, dict):
        raise ValueError("a row must be an object {...} with prompt, chosen and rejected")
    for name in ANSWERS:
        if not fields.get(name):
            raise ValueError(f"the row has no '{name}': method dpo learns from rows of prompt, chosen and rejected")
    if fields["chosen"] == fields["rejected"]:
        raise ValueError("'chosen' and 'rejected' are equal: there is nothing to prefer")
    rows = []
    for name in ANSWERS:
        try:
            rows.append(understand(_with_answer(fields, fields[name])))
        except ValueError as error:
            raise ValueError(f"with '{name}' as its answer: {error}") from None
    return Pair(*rows)


def _with_answer(fields: Mapping[str, Any], answer: Any) -> dict[str, Any]:
    """Return the row as one that is learnt, with one of its answers."""
    rest = {name: value for name, value in fields.items() if name not in ANSWERS}
    talk = rest.pop("messages", None) or rest.pop("conversations", None)
    prompt = rest.get("prompt")
    if isinstance(answer, str) and talk is None and not isinstance(prompt, list):
        return rest | ({"output": answer} if prompt is None and rest.get("instruction") is not None else {"completion": answer})
    said = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else _messages(answer)
    if talk is not None:
        return rest | {"prompt": _messages(json.loads(talk) if isinstance(talk, str) else talk), "completion": said}
    if isinstance(prompt, list):
        return rest | {"completion": said}
    if isinstance(prompt, str) and said[:1] and said[0].get("role", said[0].get("from")) in ("assistant", "gpt"):
        return rest | {"prompt": [{"role": "user", "content": prompt}], "completion": said}
    shared = _shared(*(_messages(fields[name]) for name in ANSWERS))
    return {name: value for name, value in rest.items() if name != "prompt"} | {"prompt": said[:shared], "completion": said[shared:]}


def _messages(value: Any) -> list[Any]:
    """Return a conversation, or one message, as a list of messages."""
    messages = [value] if isinstance(value, dict) else value
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError("an answer must be text, a message, or a list of messages")
    return messages


def _shared(one: list[Any], other: list[Any]) -> int:
    """Return how many messages two conversations begin with alike; at least one stays for each."""
    count = 0
    while count < min(len(one), len(other)) - 1 and one[count] == other[count]:
        count += 1
    return count
