"""What a row of a text and its summary means. Travels in the bundle beside rows.py.

Standard library only, Python >= 3.10. Which columns they are is asked of the names that data sets of this kind have, or said by
the recipe's variables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

FORM = "article/summary"
TEXTS = ("article", "document", "dialogue", "text", "body", "source", "description", "input")
SUMMARIES = ("summary", "highlights", "abstract", "target", "title", "output")
"""Names of columns, those before others win: cnn_dailymail has article and highlights, xsum document and summary, samsum dialogue."""


class Article(NamedTuple):
    """A text, its summary, and the columns that nobody reads."""

    text: str
    summary: str
    unused: tuple[str, ...]

    @property
    def form(self) -> str:
        """The form of the row."""
        return FORM

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of the row."""
        return (self.text, self.summary)


def understand_article(fields: Any, values: Mapping[str, Any], ignored: Collection[str] = ()) -> Article:
    """Return what a row means; ``values`` may name its ``text_column`` and ``summary_column``. Raises ValueError."""
    if not isinstance(fields, dict):
        raise ValueError("a row must be an object {...} with a text and its summary")
    fields = {name: value for name, value in fields.items() if name not in ignored}
    text = _column(fields, values, "text_column", TEXTS)
    summary = _column(fields, values, "summary_column", [name for name in SUMMARIES if name != text])
    if text == summary:
        raise ValueError(f"text_column and summary_column both name '{text}'")
    unused = tuple(sorted(name for name, value in fields.items() if name not in (text, summary) and value not in (None, "", [], {})))
    return Article(_said(fields, text), _said(fields, summary), unused)


def _column(fields: Mapping[str, Any], values: Mapping[str, Any], variable: str, names: Collection[str]) -> str:
    asked = values.get(variable)
    if asked:
        if asked not in fields:
            raise ValueError(f"the row has no column '{asked}', which {variable} names (it has: {_have(fields)})")
        return str(asked)
    known = next((name for name in names if fields.get(name) is not None), None)
    if known is None:
        raise ValueError(f"the row has no {' or '.join(names)} (it has: {_have(fields)}): name the column with {variable}")
    return known


def _said(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f"'{name}' must be text, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"'{name}' is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"'{name}' holds half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    return value


def _have(fields: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, fields))[:8]) or "nothing"
