"""How a model's chat template writes a conversation, as the texts between what is said: what a template of Ollama's is made of.

Nothing is guessed from a name: conversations of marked texts are written by the model's own template, cut at the marks, and what was
found must write longer conversations letter for letter as the template does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def turns_of(tokenizer: Any, *, strip: str) -> tuple[dict[str, str] | None, str]:
    """Return the texts between, else None with the reason. ``strip``: the token that whoever reads the file puts in front by itself.

    first, system, after_system: what stands before a first user's words, before and after a system's; next: before the words of a user
    that come later; answer: from a user's words to where the answer begins; before, after: around an answer of earlier.
    """
    if not tokenizer.chat_template:
        return None, "it has no chat template"
    try:
        found = _cut(_written(tokenizer, "uau", strip), "uau")
        begun = _cut(_written(tokenizer, "suau", strip), "suau")
    except Exception as error:  # templates are programs of others
        return None, f"its chat template does not write a plain conversation ({type(error).__name__})"
    if found is None:
        return None, "its chat template changes what is said"
    first, answered, later, asked = found
    size = next(
        (at for at, pair in enumerate(zip(reversed(first), reversed(later), strict=False)) if pair[0] != pair[1]),
        min(len(first), len(later)),
    )
    next_ = later[len(later) - size :]
    if not answered.startswith(asked):
        return None, "its chat template begins an answer otherwise than it writes one"
    turns = {"first": first, "next": next_, "answer": asked, "before": answered[len(asked) :], "after": later[: len(later) - len(next_)]}
    if begun is not None:
        turns |= {"system": begun[0], "after_system": begun[1]}
    for shape in ("u", "uau", "uauau", *(("su", "suau", "suauau") if begun is not None else ())):
        if _written(tokenizer, shape, strip) != _by_turns(turns, shape):
            return None, "its chat template writes later turns otherwise than earlier ones"
    return turns, ""


def _said(shape: str) -> list[dict[str, str]]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[letter], "content": f"<<{letter}{at}>>"} for at, letter in enumerate(shape)]


def _written(tokenizer: Any, shape: str, strip: str) -> str | None:
    """Return a conversation as the template writes it, with the begin of an answer; None where it has no place for a system."""
    try:
        text = str(tokenizer.apply_chat_template(_said(shape), tokenize=False, add_generation_prompt=True))
    except Exception:
        if shape.startswith("s"):
            return None
        raise
    return text.removeprefix(strip) if strip else text


def _cut(text: str | None, shape: str) -> list[str] | None:
    """Return what stands before, between and behind what is said; None where that is not all there, once and in its order."""
    if text is None:
        return None
    pieces = []
    for message in _said(shape):
        before, mark, text = text.partition(message["content"])
        if not mark:
            return None
        pieces.append(before)
    pieces.append(text)
    return None if any("<<" + letter in piece for piece in pieces for letter in "sua") else pieces


def _by_turns(turns: dict[str, str], shape: Sequence[str]) -> str:
    """Return a conversation as Ollama writes it with a template made of these turns."""
    text = ""
    for at, message in enumerate(_said("".join(shape))):
        if message["role"] == "system":
            text += turns["system"] + message["content"] + turns["after_system"]
        elif message["role"] == "user":
            begin = turns["first"] if at == 0 else "" if at == 1 and shape[0] == "s" else turns["next"]
            text += begin + message["content"] + turns["answer"]
        else:
            text += turns["before"] + message["content"] + turns["after"]
    return text
