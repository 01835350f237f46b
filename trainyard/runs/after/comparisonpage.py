"""The page of a comparison: one file, nothing is loaded."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

_HEAD = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Answers compared</title>"
_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #8884;padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top}
pre{white-space:pre-wrap;margin:0;font:inherit}.note{opacity:.7}.win{background:#22c55e22}.loss{background:#ef444422}
"""
_FIGURES = {
    "tokens_per_second": "tokens a second", "median_seconds": "median seconds of an answer",
    "median_first_token_seconds": "median seconds to its first token",
    "tokens": "tokens", "cut_by_length": "cut by length", "dollars": "dollars, at its pod's price", "scored": "with a reference",
}  # fmt: skip


def page(report: Mapping[str, Any]) -> str:
    """Return the page."""
    sides = list(report["sides"])
    count = f"{report['count']} prompts of {_text(report['prompts'])}, at most {report['tokens']} tokens an answer, the likeliest each time"
    head = f"{_HEAD}<style>{_STYLE}</style><h1>{_text(' against '.join(sides))}</h1><p class=note>{count}."
    return f"{head}{_figures(report)}{_judge(report['judge'])}{_rows(report)}\n"


def _figures(report: Mapping[str, Any]) -> str:
    sides = report["sides"].values()
    rows = [_line(said, *(side[key] for side in sides)) for key, said in _FIGURES.items()]
    names: list[str] = next((list(side["scores"]) for side in sides if side["scores"]), [])
    rows += [_line(f"mean {key}", *((side["scores"] or {}).get(key) for side in sides)) for key in names]
    return f"<table>{_line('', *report['sides'], cell='th')}{''.join(rows)}</table>"


def _judge(judge: Mapping[str, Any] | None) -> str:
    if judge is None:
        return ""
    rates = "".join(
        _line(name, *((f"{one['share']:.1%}", f"{one['from']:.1%} to {one['to']:.1%}") if one else ("", "")))
        for name, one in judge["rates"].items()
    )
    note = (
        f"{_text(judge['model'])} was asked in both orders. {judge['clear']} clear verdicts; {judge['split']} that turned with the order "
        f"count as ties; {judge['unclear']} replies were no verdict and are left out."
    )
    return f"<h2>Judge</h2><table>{_line(judge['of'], 'share', '95 % interval', cell='th')}{rates}</table><p class=note>{note}"


def _rows(report: Mapping[str, Any]) -> str:
    head = _line("prompt", *report["sides"], cell="th")
    body = "".join(_row(row) for row in report["rows"])
    return f"<h2>Answers</h2><table>{head}{body}</table>"


def _row(row: Mapping[str, Any]) -> str:
    asked = "\n".join(f"{each['role']}: {each['content']}" if each["role"] != "user" else each["content"] for each in row["messages"])
    reference = "" if row["reference"] is None else f"<p class=note>reference: {_text(row['reference'])}"
    cells = [f"<td><pre>{_text(asked)}</pre><span class=note>{_text(row['place'])}</span>{reference}"]
    for at, said in enumerate(row["answers"].values()):
        scores = "".join(f", {key} {value:g}" for key, value in (said["scores"] or {}).items())
        verdict = row.get("verdict") if at == 0 else None
        note = f"{said['tokens']} tokens, {said['seconds']:.2f} s{scores}{f'; {verdict}' if verdict else ''}"
        cells.append(f"<td class={verdict or 'plain'}><pre>{_text(said['text'])}</pre><span class=note>{_text(note)}</span>")
    return f"<tr>{''.join(cells)}"


def _line(*values: object, cell: str = "td") -> str:
    cells = [f"<{cell}>{'' if value is None else _text(value)}" for value in values]
    return f"<tr>{''.join(cells)}"


def _text(value: object) -> str:
    return html.escape(str(value))
