"""Rows of preferences in all their forms become ``prompt``, ``chosen`` and ``rejected``, as preferences.py reads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import forms
import preferences

FORM = "prompt/chosen/rejected"


def is_one(fields: Mapping[str, Any]) -> bool:
    """Tell whether a row says which of two answers is better."""
    return fields.get("chosen") is not None and fields.get("rejected") is not None


def unified(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of preferences with its prompt apart, all as text or all as messages. Raises RowFlaw."""
    chosen, rejected = _answer(fields["chosen"]), _answer(fields["rejected"])
    prompt = _prompt(fields)
    if prompt is None:
        if isinstance(chosen, str) or isinstance(rejected, str):
            raise forms.RowFlaw("the row has 'chosen' and 'rejected' but no 'prompt'")
        count = next((at for at, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), 0)
        if not count:
            raise forms.RowFlaw("'chosen' and 'rejected' begin with no message in common, and there is no 'prompt'")
        prompt, chosen, rejected = chosen[:count], chosen[count:], rejected[count:]
    if all(isinstance(each, str) for each in (prompt, chosen, rejected)):
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return {"prompt": asked, "chosen": _behind(asked, chosen), "rejected": _behind(asked, rejected)}


def understand(fields: Mapping[str, Any], ignored: Collection[str] = ()) -> preferences.Pair:
    """Return the two rows of a pair, as recipe lora reads them. Raises ValueError."""
    return preferences.understand_pair(fields, lambda row: forms.understand(row, ignored))


def _prompt(fields: Mapping[str, Any]) -> Any:
    system = fields.get("system")
    if fields.get("prompt") is not None:
        asked = fields["prompt"]
    elif fields.get("conversations") is not None or fields.get("messages") is not None:
        asked = _named(fields["conversations"] if fields.get("messages") is None else fields["messages"])
    elif fields.get("instruction") is not None:
        more = fields.get("input")
        asked = f"{fields['instruction']}\n\n{more}" if more else fields["instruction"]
    elif fields.get("question") is not None:
        asked = fields["question"]
    else:
        return None
    if not isinstance(asked, (str, list)) or not asked:
        raise forms.RowFlaw("'prompt' must be text or a list of messages, and not empty")
    asked = _named(asked) if isinstance(asked, list) else asked
    if system:
        head = {"role": "system", "content": system}
        asked = [head, {"role": "user", "content": asked}] if isinstance(asked, str) else [head, *asked]
    return asked


def _answer(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _named([value])
    if isinstance(value, list):
        return _named(value)
    raise forms.RowFlaw("'chosen' and 'rejected' must be text, a message, or a list of messages")


def _named(messages: Any) -> list[Any]:
    """Return messages of {from, value} as {role, content}."""
    if not isinstance(messages, list):
        raise forms.RowFlaw("the messages before 'chosen' and 'rejected' must be a list")
    names = {"human": "user", "gpt": "assistant", "observation": "tool"}
    return [
        {"role": names.get(item["from"], item["from"]), "content": item.get("value")}
        if isinstance(item, Mapping) and isinstance(item.get("from"), str)
        else item
        for item in messages
    ]


def _behind(asked: list[Any], answer: Any) -> Any:
    """Return an answer as messages, without the prompt that it may repeat."""
    if isinstance(answer, str):
        return [{"role": "assistant", "content": answer}]
    return answer[len(asked) :] if answer[: len(asked)] == asked else answer
