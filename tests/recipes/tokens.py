"""A tokenizer for tests: words and control tokens, with offsets and chat templates as transformers renders them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment


def _refuse(message: str) -> None:
    raise ValueError(message)


class Words:
    """Tokens are words with the blank before them, signs, blank space, and ``special`` as wholes."""

    def __init__(
        self,
        template: str | None = None,
        special: Sequence[str] = ("<s>", "</s>"),
        bos: str | None = None,
        eos: str | None = "</s>",
        added: Sequence[str] = (),
    ) -> None:
        self.is_fast = True
        self.chat_template, self.bos_token, self.eos_token = template, bos, eos
        self.all_special_tokens = list(special)
        self._ids = {token: number for number, token in enumerate([*special, *added])}
        self.added_tokens_decoder = {self._ids[token]: SimpleNamespace(content=token, special=False) for token in added}
        self._pattern = re.compile("|".join([*map(re.escape, [*special, *added]), r" ?\w+", r"\n+", r"[^\w]"]))

    @property
    def eos_token_id(self) -> int | None:
        return self._ids.get(self.eos_token) if self.eos_token else None

    @property
    def all_special_ids(self) -> list[int]:
        return [self._ids[token] for token in self.all_special_tokens]

    def get_vocab(self) -> dict[str, int]:
        return self._ids

    def __call__(self, text: str, add_special_tokens: bool = True, return_offsets_mapping: bool = False) -> dict[str, list[Any]]:
        found = list(self._pattern.finditer(text))
        ids = [self._ids.setdefault(match[0], len(self._ids)) for match in found]
        if add_special_tokens and self.bos_token:
            ids = [self._ids[self.bos_token], *ids]
        return {"input_ids": ids, "offset_mapping": [match.span() for match in found]}

    def decode(self, ids: list[int]) -> str:
        names = {number: token for token, number in self._ids.items()}
        return "".join(names[number] for number in ids)

    def apply_chat_template(
        self,
        messages: list[Any],
        tokenize: bool,
        add_generation_prompt: bool,
        tools: list[Any] | None = None,
    ) -> str:
        env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        env.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        env.globals["raise_exception"] = _refuse
        known = {"bos_token": self.bos_token, "eos_token": self.eos_token} if self.bos_token else {"eos_token": self.eos_token}
        return env.from_string(self.chat_template or "").render(
            messages=messages, add_generation_prompt=add_generation_prompt, **({"tools": tools} if tools else {}), **known
        )
