"""A conversation becomes the text that the shipped chat template gives, with the places of what is learnt.

What is trained is what is shipped: the prompt of every learnt answer is, token by token, what
``apply_chat_template(..., add_generation_prompt=True)`` gives before that answer. A template that rewrites earlier
turns (it strips their thinking) gets one sample an answer; a row whose meaning does not arrive is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from forms import Row, RowFlaw

Sample = tuple[list[int], list[int]]
"""Token ids, and 1 where the loss counts."""
Span = tuple[int, int]

CHATML = (
    "{% set head = messages[0]['content'] + '\n\n' if messages and messages[0]['role'] == 'system' else '' %}"
    "{% if tools %}{{ '<|im_start|>system\n' + head + 'These functions can be called:\n<tools>\n' }}"
    "{% for tool in tools %}{{ (tool | tojson) + '\n' }}{% endfor %}"
    "{{ '</tools>\nA call is a JSON object of name and arguments between <tool_call> and </tool_call>.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{% if not (tools and loop.first and message['role'] == 'system') %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['reasoning_content'] %}{{ '<think>\n' + message['reasoning_content'] + '\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}{{ '\n' if message['content'] or not loop.first else '' }}"
    "{{ '<tool_call>\n' + ({'name': call['function']['name'], 'arguments': call['function']['arguments']} | tojson) + '\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_HEAD = (
    "{% if messages and messages[0]['role'] == 'system' %}{% set head = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set head = '' %}{% set rest = messages %}{% endif %}"
)
GEMMA = (
    _HEAD + "{{ bos_token or '' }}{% for message in rest %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ (head if loop.first else '') + message['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    _HEAD
    + "{{ bos_token or '' }}{% for message in rest %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ '[INST] ' + (head if loop.first else '') + message['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
PLAIN = (
    "{{ bos_token or '' }}{% for message in messages %}{{ '### ' + (message['role'] | capitalize) + ':\n' + message['content'] }}"
    "{{ (eos_token if message['role'] == 'assistant' else '') + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
NAMED: dict[str, tuple[str, tuple[str, ...]]] = {
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>")),
    "llama3": (LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "gemma": (GEMMA, ("<start_of_turn>", "<end_of_turn>")),
    "mistral": (MISTRAL, ()),
    "plain": (PLAIN, ()),
}
"""Name -> template and the tokens that the base's vocabulary must have for it."""


def choose(tokenizer: Any, wanted: str) -> str:
    """Give the tokenizer the template that is trained and shipped; return its name. Raises RowFlaw when it cannot carry it.

    ``auto`` is the base's own template; where there is none: chatml if the vocabulary knows its tokens, else plain.
    """
    if wanted == "auto" and tokenizer.chat_template:
        return "the base's own"
    known = tokenizer.get_vocab()
    name = wanted
    if wanted == "auto":
        name = "chatml" if all(token in known for token in NAMED["chatml"][1]) else "plain"
    template, tokens = NAMED[name]
    missing = [token for token in tokens if token not in known]
    if missing:
        raise RowFlaw(
            f"chat_template {name} needs the tokens {' '.join(missing)}, which this base does not have: choose another, plain works with"
            " every base"
        )
    if "eos_token" in template and not tokenizer.eos_token:
        raise RowFlaw(f"chat_template {name} ends an answer with the base's end token, and this base has none: choose another")
    tokenizer.chat_template = template
    return name


class Encoder:
    """Rows become token ids with a mask of what is learnt."""

    def __init__(self, tokenizer: Any, everything: bool = False) -> None:
        self.tokenizer, self._everything = tokenizer, everything
        added = dict(getattr(tokenizer, "added_tokens_decoder", {}))
        special = {number: token.content for number, token in added.items() if token.special}
        self._special = set(tokenizer.all_special_ids) | set(special)
        self._whole = self._special | set(added)
        self._control = sorted({*tokenizer.all_special_tokens, *special.values()} - {""})
        self._ends: set[int] = set()
        self.conversations = 0

    def samples(self, row: Row) -> list[Sample]:
        """Return the samples of a row, each (ids, mask). Raises RowFlaw with the reason why a row cannot be trained."""
        if not any(row.learnt):
            return []
        if row.messages:
            return self._conversation(row)
        ids: list[int] = []
        answer: list[int] = self.tokenizer(row.answer, add_special_tokens=not row.prompt)["input_ids"]
        if row.prompt:
            ids = self.tokenizer(row.prompt)["input_ids"]
            ids = ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids
        end = self.tokenizer.eos_token_id
        answer = [*answer, end] if end is not None and answer[-1:] != [end] else answer
        return [([*ids, *answer], [int(self._everything)] * len(ids) + [1] * len(answer))]

    def pair(self, chosen: Row, rejected: Row) -> list[Sample]:
        """Return the sample of the good answer to a prompt, and that of the bad one. Raises RowFlaw as samples() does."""
        found = [self.samples(row) for row in (chosen, rejected)]
        if not all(found):
            return []
        if any(len(samples) > 1 for samples in found):
            raise RowFlaw("'chosen' and 'rejected' must be one answer each: this template makes several samples of a conversation")
        return [sample for samples in found for sample in samples]

    def end_tokens(self) -> list[int]:
        """Return the ids that end an answer: the tokenizer's own end token, and those that learnt answers end with."""
        own = [self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else []
        return own + sorted((self._ends & self._whole) - set(own))

    def _conversation(self, row: Row) -> list[Sample]:
        self._refuse_control_tokens(row)
        self.conversations += 1
        last = max(number for number, learnt in enumerate(row.learnt) if learnt)
        prompts = _Prompts(row, self.tokenizer)
        whole = prompts.text(last + 1)
        spans: list[Span] = []
        alone: list[tuple[str, list[Span]]] = []
        for number in range(last + 1):
            if not row.learnt[number]:
                continue
            if number == 0:
                raise RowFlaw("message 1 is the assistant's, and no prompt stands before it: begin with the user's, or give it weight 0")
            before, after = prompts.text(number, asked=True), prompts.text(number + 1)
            prompts.check(number, before, after)
            # Blank space behind the end token is never generated.
            span = (len(before), len(after.rstrip()))
            if span[1] <= span[0]:
                raise RowFlaw(f"message {number + 1}: the chat template leaves nothing of it")
            if whole.startswith(after):
                spans.append(span)
            else:
                alone.append((after, [span]))
        if spans:
            alone.append((whole, spans))
        # Added tokens need not be special; what the answer itself ends with (</tool_call>) is no end of a turn.
        said = row.messages[last]["content"].rstrip()
        if self._everything:
            alone = [(whole, _around(_muted(row, prompts, last, whole), len(whole.rstrip())))]
        ends = self._special if said and whole.rstrip().endswith(said) else self._whole
        return [sample for text, found in alone for sample in self._tokens(text, found, ends)]

    def _refuse_control_tokens(self, row: Row) -> None:
        """A control token inside a message would end it there: the model would learn another conversation."""
        for number, message in enumerate(row.messages, 1):
            said = "\n".join(text for name, text in message.items() if name != "role" and isinstance(text, str))
            for token in self._control:
                if token in said:
                    raise RowFlaw(f"message {number} holds the control token {token}, which ends or begins a turn: take it out of the text")

    def _tokens(self, text: str, spans: Sequence[Span], ends: set[int]) -> list[Sample]:
        """Return [(ids, mask)] of a text; an answer must begin where its prompt's own tokens end."""
        if not getattr(self.tokenizer, "is_fast", True):  # it cannot tell where its tokens stand in the text
            return self._in_parts(text, spans, ends)
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, places = list(found["input_ids"]), found["offset_mapping"]
        mask = [int(any(end > first and start < last for first, last in spans)) for start, end in places]
        for first, _ in spans if not self._everything else ():
            prompt = self._plain(text[:first])
            count = len(prompt)
            if ids[:count] != prompt or mask[count : count + 1] != [1] or mask[count - 1 : count] == [1]:
                return self._in_parts(text, spans, ends)
        return [self._ended(ids, mask, ends)]

    def _in_parts(self, text: str, spans: Sequence[Span], ends: set[int]) -> list[Sample]:
        """Tokenize prompt and answer apart where a token would cover both: one sample an answer."""
        samples = []
        for first, last in spans:
            prompt, answer = self._plain(text[:first]), self._plain(text[first:last])
            if self.tokenizer.decode(prompt + answer) != text[:last]:
                raise RowFlaw(
                    "an answer begins in the middle of a token of its prompt, and this tokenizer cannot part them: begin it with a word"
                )
            samples.append(self._ended(prompt + answer, [0] * len(prompt) + [1] * len(answer), ends))
        return samples

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _ended(self, ids: list[int], mask: list[int], ends: set[int]) -> Sample:
        """Add the end token behind an answer whose template has none: without it the model never learns to stop."""
        last = len(mask) - 1 - mask[::-1].index(1)
        if ids[last] not in ends and self.tokenizer.eos_token_id is not None:
            ids, mask = [*ids[: last + 1], self.tokenizer.eos_token_id], [*mask[: last + 1], 1]
            last += 1
        self._ends.add(ids[last])
        return ids, mask


def _muted(row: Row, prompts: _Prompts, last: int, whole: str) -> Iterator[Span]:
    """Yield where the messages of weight 0 stand in the whole text, in their order. Raises RowFlaw where the template moves them."""
    for number in sorted(row.muted):
        if number > last:
            return
        answer = row.messages[number]["role"] == "assistant"
        before, after = prompts.text(number, asked=answer) if number or answer else "", prompts.text(number + 1)
        if not (after.startswith(before) and whole.startswith(after)):
            raise RowFlaw(
                f"message {number + 1} has weight 0, and the chat template writes it otherwise once more follows: train on completion"
            )
        yield len(before), len(after)


def _around(muted: Iterable[Span], end: int) -> list[Span]:
    """Return what lies between these spans, up to the end."""
    edges = [0, *(edge for span in muted for edge in span), end]
    return [(first, last) for first, last in zip(edges[0::2], edges[1::2], strict=True) if first < last]


class _Prompts:
    """The texts that the template gives for the first messages of a row."""

    def __init__(self, row: Row, tokenizer: Any) -> None:
        self._row, self._tokenizer = row, tokenizer
        self._known: dict[tuple[int, bool], str] = {}
        self._messages: list[dict[str, Any]] = [dict(message) for message in row.messages]

    def text(self, count: int, asked: bool = False) -> str:
        if (count, asked) not in self._known:
            try:
                found = self._render(count, asked)
            except RowFlaw:
                raise
            except Exception as error:
                if not any("tool_calls" in message for message in self._messages) or self._as_text():
                    raise RowFlaw(
                        f"the chat template refuses the row: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                    ) from None
                self._known.clear()
                return self.text(count, asked)
            self._known[count, asked] = found
        return self._known[count, asked]

    def _render(self, count: int, asked: bool) -> str:
        more = {"tools": self._row.tools} if self._row.tools else {}
        text: str = self._tokenizer.apply_chat_template(self._messages[:count], tokenize=False, add_generation_prompt=asked, **more)
        return text

    def _as_text(self) -> bool:
        """Write the arguments of tools as JSON text, which some templates want; return whether they were so already."""
        calls = [call["function"] for message in self._messages for call in message.get("tool_calls", [])]
        if any(isinstance(call["arguments"], str) for call in calls):
            return True
        for message in self._messages:
            if "tool_calls" in message:
                message["tool_calls"] = [
                    call | {"function": call["function"] | {"arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False)}}
                    for call in message["tool_calls"]
                ]
        return False

    def check(self, number: int, before: str, after: str) -> None:
        """Raise RowFlaw when an answer is not learnt behind its own prompt, or something the row says is not in the text."""
        if not after.startswith(before):
            here = after[: _common(before, after) + 20]
            raise RowFlaw(
                f"message {number + 1}: the chat template begins an answer at inference with {before[-20:]!r}, but puts {here[-40:]!r}"
                " before this one: choose another chat_template, or write rows of prompt/completion"
            )
        sample, answer = _squashed(after), _squashed(before[-200:] + after[len(before) :])
        for place, message in enumerate(self._row.messages[: number + 1]):
            # What the template strips of earlier answers, it strips at inference, too.
            if message["role"] != "assistant" and not _carries(sample, message["content"]):
                raise RowFlaw(f"message {place + 1}: the chat template does not carry what role {message['role']} says")
        message = self._row.messages[number]
        pieces = message["content"].replace("</think>", "<think>").split("<think>")
        if not all(_carries(answer, piece) for piece in pieces):
            raise RowFlaw(f"message {number + 1}: the chat template does not carry all of the answer")
        for name in ("reasoning_content", "reasoning", "thinking"):
            if name in message and not _carries(answer, message[name]):
                raise RowFlaw(
                    f"message {number + 1}: the chat template does not carry '{name}': to train without it, name it in ignore_columns"
                )
        for call in message.get("tool_calls", []):
            words = [call["function"]["name"], *call["function"]["arguments"]]
            if not all(_carries(answer, word) for word in words):
                raise RowFlaw(
                    f"message {number + 1}: the chat template does not carry 'tool_calls': choose another chat_template (chatml does)"
                )
        for tool in self._row.tools or []:
            function = tool.get("function", tool)
            known = function.get("name") if isinstance(function, dict) else None
            if not isinstance(known, str) or not _carries(sample, known):
                raise RowFlaw(
                    "the chat template does not carry 'tools': choose another chat_template (chatml does), or name tools in ignore_columns"
                )


def _carries(squashed: str, text: str) -> bool:
    """Tell whether a text stands in another, blank space aside, as it is or as JSON writes it."""
    return _squashed(text) in squashed or _squashed(json.dumps(text, ensure_ascii=False)[1:-1]) in squashed


def _squashed(text: str) -> str:
    return "".join(text.split())


def _common(one: str, other: str) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
