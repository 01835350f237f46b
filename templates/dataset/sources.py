"""Every row of the sources as an example, or the reason why it is none, with its file and line."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import documents
import exports
import forms
import memories
import pairs
import rows
import talks
import wrapped
from cleaning import Cleaner
from columns import Renamer
from quality import QualityFilter
from spool import Example

_CUT = "conversations cut before a picture, file or tool"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a row is no example; ``flawed``: it cannot be read or learnt, else it was filtered out."""

    reason: str
    flawed: bool = False


def read(run_dir: str, input_dir: str, make: Maker, chunk: int) -> Iterator[tuple[str, Any]]:
    """Yield (file:line, Example or Refused) of all sources, in the order of data.json.

    Of several files one that cannot be begun is told as a row that is flawed. Raises rows.RowError with file:line where a file
    cannot be read on.
    """
    with open(os.path.join(run_dir, "data.json"), encoding="utf-8") as file:
        data = json.load(file)
    names = rows.hub_files(input_dir, data["hub"].get("split")) if data["hub"] else [item["dest"] for item in data["files"]]
    for name in names:
        before = number = 0
        try:
            with io.BufferedReader(io.FileIO(os.path.join(input_dir, name)), 1 << 17) as stream:
                for number, (line, found) in enumerate(_rows(stream, name, make, chunk), 1):
                    # A list that was written without breaks has all its rows in one line.
                    place = f"{name}:{line}" if line != before else f"{name}:{line} (row {number})"
                    before = line
                    yield place, Refused(found.message, flawed=True) if isinstance(found, rows.RowError) else found
        except rows.RowError as error:
            if number or len(names) == 1:
                raise
            yield f"{name}:{error.line}", Refused(error.message, flawed=True)  # an empty note, a picture beside others


def _rows(stream: io.BufferedReader[Any], name: str, make: Maker, chunk: int) -> Iterator[tuple[int, Any]]:
    suffix = PurePath(name).suffix.lower()
    if suffix in documents.SUFFIXES:
        chat = suffix in (".txt", ".text") and talks.is_whatsapp(stream)
        found = make.talk(talks.whatsapp(stream, name), chunk) if chat else documents.read(stream, name, chunk)
    elif suffix == ".json" and talks.is_slack(stream):
        found = make.talk(talks.slack(rows.read_rows(stream, name, lambda fields: fields)), chunk)
    elif suffix == ".json" and wrapped.is_one(stream):
        found = make.opened(wrapped.read(stream, name), chunk)
    else:
        if problem := rows.unknown_suffix(name):
            raise rows.RowError(name, 1, f"{problem.message}, {', '.join(documents.SUFFIXES)}", hint=problem.hint)
        yield from rows.read_rows(stream, name, make)
        return
    for line, fields in found:
        try:
            yield line, fields if isinstance(fields, Refused) else make(fields)
        except (ValueError, RecursionError) as error:
            yield line, rows.RowError(name, line, str(error))


class Maker:
    """Make examples of rows: clean them, understand them as the training will, filter them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.cleaner = Cleaner(config["unicode"], config["mask_pii"])
        self.unused: Counter[str] = Counter()
        self.odd_times = 0
        self._ignored = frozenset(config["ignore_columns"])
        self._talks = config["form"] == "messages"
        self._filter = QualityFilter(config)
        self._asker = memories.Asker(config)
        self._renamer = Renamer(config["columns"])
        self._persona = config["persona"]

    def talk(self, said: Iterable[talks.Said], most: int) -> Iterator[tuple[int, Any]]:
        """Yield (line, row) of the conversations of a chat between people, Refused for those that are none."""
        for line, found in talks.conversations(said, self._persona, most):
            missing = Refused("chat in which nobody is answered") if found == "" else Refused(str(found), flawed=True)
            yield line, missing if isinstance(found, str) else found

    def opened(self, values: Iterable[tuple[int, Any]], most: int) -> Iterator[tuple[int, Any]]:
        """Yield (line, value) of what a file of JSON holds, with the conversations of a chat of Telegram in its place."""
        for line, value in values:
            if not talks.is_telegram(value):
                yield line, value
                continue
            for said in talks.telegram(line, value):
                yield from self.talk(said, most)

    def __call__(self, fields: Any) -> Example | Refused:
        """Return a row as an example, or why it is filtered out. Raises RowFlaw where it cannot be learnt."""
        if isinstance(fields, str):
            fields = {"text": fields}
        if not isinstance(fields, dict):
            forms.understand(fields)
        fields = self._renamer.row(fields)
        at, odd = memories.time_of(fields)
        self.odd_times += odd
        tags = memories.tags_of(fields)
        fields, cut = exports.unified(fields)
        if cut:
            self.cleaner.counts[_CUT] += 1
        fields = self.cleaner.value({name: value for name, value in fields.items() if name not in self._ignored})
        if pairs.is_one(fields):
            return self._preference(fields, at, tags)
        content = None
        if memories.is_memory(fields) and not _has_form(fields):
            content = memories.content_of(fields)
            fields = self._asker.row(content, fields, at)
        row = forms.understand(fields, self._ignored)
        if not any(row.learnt):
            return Refused("weight 0: not learnt")
        self.unused.update(row.unused)
        if self._talks and row.form != forms.TEXT:
            kept, form = _as_messages(row), forms.MESSAGES
        else:
            kept, form = {name: value for name, value in fields.items() if name not in row.unused and value not in (None, "", [])}, row.form
        text, prompt = (content, "") if content is not None else ("\n".join(row.texts), _asked(row))
        if problem := self._filter.problem(text):
            return Refused(problem)
        return Example(form, kept, text, prompt, at, tags)

    def _preference(self, fields: dict[str, Any], at: float | None, tags: tuple[str, ...]) -> Example | Refused:
        kept = pairs.unified(fields)
        pair = pairs.understand(kept, self._ignored)
        for row in pair:
            if problem := self._filter.problem("\n".join(row.texts)):
                return Refused(problem)
        return Example(pairs.FORM, kept, "\n".join(pair.texts), _asked(pair.chosen), at, tags)


def _has_form(fields: Mapping[str, Any]) -> bool:
    return any(fields.get(name) is not None for name in ("messages", "conversations", "prompt", "instruction", "text"))


def _asked(row: forms.Row) -> str:
    """Return what stands before the first answer that is learnt."""
    if not row.messages:
        return row.prompt
    first = next((number for number, learnt in enumerate(row.learnt) if learnt), 0)
    return "\n".join(str(message["content"]) for message in row.messages[:first] if message["role"] != "system")


def _as_messages(row: forms.Row) -> dict[str, Any]:
    if not row.messages:
        said = [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.answer}]
        return {"messages": said}
    pairs = zip(row.messages, row.learnt, strict=True)
    messages = [message if learnt or message["role"] != "assistant" else {**message, "weight": 0} for message, learnt in pairs]
    return {"messages": messages, **({"tools": row.tools} if row.tools else {})}
