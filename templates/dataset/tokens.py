"""How many tokens the rows have, by the base's own tokenizer and chat template, encoded as recipe lora trains them."""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import chat
import forms
import pairs
import tokenizers
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json"]
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_DATE = datetime(2026, 1, 1)
"""What templates are told that write the date: counts are the same on every day."""
QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)
_STEP = 64


class NoTokenizer(Exception):
    """The tokenizer of the base is not to be had."""


def folder_of(base: str) -> str:
    """Return the folder with a base's tokenizer: its own, or what this machine has of the Hub, or can fetch. Raises NoTokenizer."""
    if os.path.isdir(base):
        folder = base
    elif base.startswith(("/", ".", "~")):
        raise NoTokenizer(f"base_model {base}: there is no such folder")
    else:
        from huggingface_hub import snapshot_download

        try:
            folder = snapshot_download(base, allow_patterns=_FILES, local_files_only=True)
            if not os.path.exists(os.path.join(folder, _FILES[0])):
                raise FileNotFoundError(folder)
        except Exception:
            try:
                folder = snapshot_download(base, allow_patterns=_FILES)
            except Exception as error:
                advice = "Name a folder with its tokenizer.json, or leave base_model unset: then no tokens are counted."
                raise NoTokenizer(f"base_model {base}: neither a folder here nor to be had from the Hub: {error}\n{advice}") from None
    if not os.path.exists(os.path.join(folder, _FILES[0])):
        raise NoTokenizer(f"base_model {base}: has no tokenizer.json, by which tokens are counted")
    return folder


class _Generation(Extension):
    """The mark of transformers around answers, which writes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class BaseTokenizer:
    """A base's tokenizer with what recipe lora asks of one, without transformers."""

    is_fast = True

    def __init__(self, folder: str) -> None:
        try:
            self._own = tokenizers.Tokenizer.from_file(os.path.join(folder, _FILES[0]))
            said = {**_json(folder, "special_tokens_map.json"), **_json(folder, "tokenizer_config.json")}
        except Exception as error:
            raise NoTokenizer(f"{folder}: its tokenizer cannot be read: {error}") from None
        self._own.no_truncation()
        self._own.no_padding()
        self._names = {name: text for name in _NAMED if (text := _token(said.get(name)))}
        self.eos_token = self._names.get("eos_token")
        more = [_token(each) for each in said.get("additional_special_tokens") or []]
        self.all_special_tokens = list(dict.fromkeys([*self._names.values(), *filter(None, more)]))
        self.all_special_ids = [number for token in self.all_special_tokens if (number := self._own.token_to_id(token)) is not None]
        self.eos_token_id = self._own.token_to_id(self.eos_token) if self.eos_token else None
        self.added_tokens_decoder = self._own.get_added_tokens_decoder()
        self.chat_template: str | None = _template(folder, said)
        self._compiled: tuple[str | None, Any] = (None, None)

    def get_vocab(self) -> dict[str, int]:
        return dict(self._own.get_vocab())

    def __call__(self, text: str, add_special_tokens: bool = True, return_offsets_mapping: bool = False) -> dict[str, list[Any]]:
        found = self._own.encode(text, add_special_tokens=add_special_tokens)
        return {"input_ids": found.ids, **({"offset_mapping": found.offsets} if return_offsets_mapping else {})}

    def decode(self, ids: list[int]) -> str:
        return str(self._own.decode(ids, skip_special_tokens=False))

    def apply_chat_template(
        self, messages: list[Any], tokenize: bool = False, add_generation_prompt: bool = False, tools: Any = None
    ) -> str:
        if self._compiled[0] != self.chat_template:
            self._compiled = (self.chat_template, _environment().from_string(self.chat_template or ""))
        known = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": add_generation_prompt}
        return str(self._compiled[1].render(**known, **self._names))


def _environment() -> ImmutableSandboxedEnvironment:
    """Return Jinja as transformers sets it up for chat templates."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None, **_: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _DATE.strftime
    return environment


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _json(folder: str, name: str) -> dict[str, Any]:
    path = Path(folder, name)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _token(value: Any) -> str | None:
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) and found else None


def _template(folder: str, said: Mapping[str, Any]) -> str | None:
    path = Path(folder, "chat_template.jinja")
    found: Any = path.read_text(encoding="utf-8") if path.is_file() else None
    found = found or _json(folder, "chat_template.json").get("chat_template") or said.get("chat_template")
    if isinstance(found, list):
        named = {each.get("name"): each.get("template") for each in found}
        found = named.get("default") or next(iter(named.values()), None)
    return found if isinstance(found, str) else None


class TokenCounter:
    """Count the tokens of rows as the training will see them."""

    def __init__(self, base: str, template: str, limit: int) -> None:
        tokenizer = BaseTokenizer(folder_of(base))
        self.template = chat.choose(tokenizer, template)
        self._encoder, self._limit = chat.Encoder(tokenizer), limit
        self.lengths: array[int] = array("I")
        self.rows = self.cut = self.lost = self.tokens = self.kept = self.learnt = 0

    def add(self, form: str, fields: dict[str, Any]) -> None:
        """Count a row. Raises RowFlaw where the base cannot carry it."""
        rows = pairs.understand(fields) if form == pairs.FORM else (forms.understand(fields),)
        found = [sample for row in rows for sample in self._encoder.samples(row)]
        self.rows += 1
        sizes = [len(ids) for ids, _ in found]
        self.lengths.extend(sizes)
        self.cut += any(size > self._limit for size in sizes)
        self.lost += not any(any(mask[1 : self._limit]) for _, mask in found)
        self.tokens += sum(sizes)
        self.kept += sum(min(size, self._limit) for size in sizes)
        self.learnt += sum(sum(mask[: self._limit]) for _, mask in found)

    def report(self) -> dict[str, Any]:
        """Return what was counted."""
        ordered = sorted(self.lengths)
        at = {f"{share:.0%}": ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in QUANTILES} if ordered else {}
        fits = math.ceil(at["99%"] / _STEP) * _STEP if at else None
        return {
            "chat_template": self.template, "rows": self.rows, "samples": len(ordered), "tokens": self.tokens, "learnt": self.learnt,
            "lengths": at, "max_seq_length": self._limit, "rows_cut": self.cut, "rows_lost": self.lost,
            "share_of_rows_cut": round(self.cut / self.rows, 4) if self.rows else 0.0,
            "share_of_tokens_cut": round(1 - self.kept / self.tokens, 4) if self.tokens else 0.0,
            "max_seq_length_for_99_percent": fits,
        }  # fmt: skip
