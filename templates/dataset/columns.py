"""Columns under other names: those that a person says, and pairs of question and answer as many data sets call them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import forms

_PAIRS = (
    ("question", "answer"), ("question", "response"), ("query", "answer"), ("query", "response"),
    ("input", "output"), ("user", "assistant"), ("problem", "solution"),
)  # fmt: skip
_FORMS = ("messages", "conversations", "prompt", "completion", "instruction", "text")
"""What has one of these is in a form already, or fails in one."""


class WrongSetting(ValueError):
    """A setting that nothing can be done with."""


class Renamer:
    """Give the columns of rows the names that a training reads."""

    def __init__(self, pairs: Sequence[str]) -> None:
        self._names: dict[str, str] = {}
        for pair in pairs:
            theirs, sign, ours = (word.strip() for word in pair.partition("="))
            if not (theirs and sign and ours):
                raise WrongSetting(f"columns: {pair!r}: write THEIRS=OURS, as in columns=frage=prompt,antwort=completion")
            self._names[theirs] = ours

    def row(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return a row under our names. Raises RowFlaw where two columns would have one name."""
        for theirs, ours in self._names.items():
            if theirs in fields:
                if fields.get(ours) is not None:
                    raise forms.RowFlaw(f"'{theirs}' cannot become '{ours}' (setting columns): the row has one")
                fields = {ours if name == theirs else name: value for name, value in fields.items() if name != ours}
        if any(fields.get(name) is not None for name in _FORMS):
            return fields
        known = [pair for pair in _PAIRS if all(isinstance(fields.get(name), str) for name in pair)]
        if len(known) != 1:
            return fields
        names = dict(zip(known[0], ("prompt", "completion"), strict=True))
        return {names.get(name, name): value for name, value in fields.items() if name not in names.values()}
