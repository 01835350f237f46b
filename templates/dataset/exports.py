"""Conversations as ChatGPT and Claude export them, as messages: the branch that was read last, as far as it is text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import forms

_THOUGHTS = ("thoughts", "reasoning_recap", "user_editable_context", "model_editable_context")
"""What ChatGPT keeps in a conversation that nobody has said."""
_SENDERS = {"human": "user", "assistant": "assistant"}


class Cut(Exception):
    """From here on the conversation needs what is no text: a picture, a file, a tool."""


def unified(fields: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a row with its messages, and whether they were cut; any other row as it is. Raises RowFlaw."""
    if isinstance(fields.get("mapping"), Mapping):
        turns = _chatgpt(fields)
    elif isinstance(fields.get("chat_messages"), list):
        turns = _claude(fields["chat_messages"])
    else:
        return fields, False
    messages: list[dict[str, Any]] = []
    cut = False
    try:
        messages.extend({"role": role, "content": text} for role, text in turns if text.strip() and (role != "system" or not messages))
    except Cut:
        cut = True
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    if not messages:
        before = " before its first picture, file or tool" if cut else ""
        raise forms.RowFlaw(f"the conversation has no answer in text{before}")
    return {"messages": messages}, cut


def _chatgpt(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for node in _branch(fields["mapping"], fields.get("current_node")):
        message = node.get("message")
        if not isinstance(message, Mapping):
            continue
        content, about = _object(message.get("content")), _object(message.get("metadata"))
        kind, role = content.get("content_type"), _object(message.get("author")).get("role")
        if about.get("is_visually_hidden_from_conversation") or message.get("weight") == 0 or kind in _THOUGHTS:
            continue
        parts = content.get("parts")
        text = kind in ("text", "multimodal_text") and isinstance(parts, list) and all(isinstance(part, str) for part in parts)
        if role not in ("system", "user", "assistant") or not text or message.get("recipient") not in (None, "all"):
            raise Cut
        yield role, "\n".join(parts or ())


def _branch(mapping: Mapping[str, Any], last: Any) -> list[Mapping[str, Any]]:
    """Return the messages of a tree from its root to ``last``, or else to the newest leaf."""
    if last not in mapping:
        last = next((name for name, node in mapping.items() if not _object(node).get("parent")), None)
        seen = set()
        while last in mapping and last not in seen and (children := _object(mapping[last]).get("children")):
            seen.add(last)
            last = children[-1]
    found: dict[Any, Mapping[str, Any]] = {}
    while isinstance(last, str) and last in mapping and last not in found:
        found[last] = _object(mapping[last])
        last = found[last].get("parent")
    return list(reversed(found.values()))


def _claude(messages: list[Any]) -> Iterator[tuple[str, str]]:
    for message in map(_object, messages):
        role, parts = _SENDERS.get(str(message.get("sender"))), message.get("content")
        if role is None or any(message.get(name) for name in ("attachments", "files", "files_v2")):
            raise Cut
        if not parts:
            yield role, str(message.get("text") or "")
            continue
        said = [part for part in map(_object, parts) if part.get("type") != "thinking"]
        if any(part.get("type") != "text" for part in said):
            raise Cut
        yield role, "\n\n".join(str(part.get("text") or "") for part in said)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
