"""What a model answers, token by token: stop words, seed, counts and times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from answers import Answer, OnText, Sampling, Unanswerable


def prompt_of(tokenizer: Any, messages: Sequence[dict[str, Any]]) -> Any:
    """Return a conversation as the model's template writes it, up to where the answer begins; the last text alone without a template.

    Raises jinja2's errors for a conversation that the template does not carry.
    """
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    return plain_prompt(tokenizer, str(messages[-1]["content"]))


def plain_prompt(tokenizer: Any, text: str) -> Any:
    """Return a text as the model reads it."""
    return tokenizer(text, return_tensors="pt")["input_ids"]


def room_of(model: Any) -> int:
    """Return how many tokens prompt and answer may have together."""
    return int(getattr(model.config, "max_position_embeddings", None) or 1 << 20)


def answer(
    model: Any, tokenizer: Any, ids: Any, how: Sampling, on_text: OnText | None = None, is_over: Callable[[], bool] = lambda: False
) -> Answer:
    """Return what the model says behind a prompt; ``on_text`` gets each piece as soon as no later token can change it.

    ``is_over`` ends the answer where it is. Raises Unanswerable, and whatever ``on_text`` raises.
    """
    asked, began = int(ids.shape[1]), time.monotonic()
    room = room_of(model) - asked
    if not asked:
        raise Unanswerable("the prompt is empty")
    if room < 1:
        raise Unanswerable(f"the prompt has {asked} tokens, and prompt and answer may have {room_of(model)} together")
    words = _Words(tokenizer, how.stop, on_text)
    if how.seed is not None:
        torch.manual_seed(how.seed)
    drawn: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if how.temperature > 0:
        drawn = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
    with torch.inference_mode():
        model.generate(
            ids.to(model.device), attention_mask=torch.ones_like(ids).to(model.device), max_new_tokens=min(how.tokens, room),
            streamer=words,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            stopping_criteria=transformers.StoppingCriteriaList([_Over(lambda: words.stopped or is_over())]),
            **drawn,
        )  # fmt: skip
    ended = words.stopped or (bool(words.ids) and words.ids[-1] in ends_of(model, tokenizer))
    return Answer(
        words.text,
        "stop" if ended else "length",
        asked,
        len(words.ids),
        (words.first or time.monotonic()) - began,
        time.monotonic() - began,
    )


def ends_of(model: Any, tokenizer: Any) -> set[int]:
    """Return every token that ends an answer."""
    named = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id} if named is None else set(named) if isinstance(named, list) else {named}


class _Over(transformers.StoppingCriteria):
    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def __call__(self, input_ids: Any, scores: Any, **more: Any) -> Any:
        return torch.full((input_ids.shape[0],), self._is_over(), device=input_ids.device)


class _Words(transformers.generation.streamers.BaseStreamer):
    """Tokens as they come, as text: half a letter and what may become a stop word are held back."""

    def __init__(self, tokenizer: Any, stop: tuple[str, ...], on_text: OnText | None) -> None:
        self.ids: list[int] = []
        self.text = ""
        self.first: float | None = None
        self.stopped = False
        self._tokenizer, self._stop, self._on_text = tokenizer, stop, on_text
        self._sent = self._known = self._read = 0
        self._is_prompt = True

    def put(self, value: Any) -> None:
        if self._is_prompt:
            self._is_prompt = False
            return
        if self.stopped:  # the token that was under way
            return
        self.first = self.first or time.monotonic()
        self.ids += value.reshape(-1).tolist()
        before, now = self._decoded(self._read), self._decoded(len(self.ids))
        if not now.endswith("\N{REPLACEMENT CHARACTER}"):
            self._take(now[len(before) :])
            self._known, self._read = self._read, len(self.ids)

    def end(self) -> None:
        if not self.stopped:
            self._take(self._decoded(len(self.ids))[len(self._decoded(self._read)) :])
        self._send(len(self.text))

    def _decoded(self, until: int) -> str:
        text: str = self._tokenizer.decode(self.ids[self._known : until], skip_special_tokens=True)
        return text

    def _take(self, piece: str) -> None:
        start = len(self.text)
        self.text += piece
        found = [at for word in self._stop if (at := self.text.find(word, max(0, start - len(word)))) >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True
        held = 0 if self.stopped else max((_begun(self.text, word) for word in self._stop), default=0)
        self._send(len(self.text) - held)

    def _send(self, until: int) -> None:
        if self._on_text is not None and until > self._sent:
            self._on_text(self.text[self._sent : until])
            self._sent = until


def _begun(text: str, word: str) -> int:
    """Return how many letters at the end of a text may be the beginning of a stop word."""
    return next((size for size in range(min(len(word) - 1, len(text)), 0, -1) if text.endswith(word[:size])), 0)
