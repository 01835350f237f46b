"""Bars and histograms as inline SVG, readable in light and dark, without a script."""

from __future__ import annotations

import html
from collections.abc import Sequence

_WIDTH, _LINE, _LABEL = 720, 22, 260
_HIGH, _FOOT = 160, 34


def bars(pairs: Sequence[tuple[str, int]]) -> str:
    """Return horizontal bars, one a name."""
    most = max((count for _, count in pairs), default=0) or 1
    room = _WIDTH - _LABEL - 90
    parts = []
    for place, (name, count) in enumerate(pairs):
        y, wide = place * _LINE, max(1, round(room * count / most)) if count else 0
        shown = html.escape(name if len(name) <= 38 else name[:37] + "…")
        parts.append(
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{shown}</text>'
            f'<rect x="{_LABEL}" y="{y + 3}" width="{wide}" height="{_LINE - 6}"/>'
            f'<text x="{_LABEL + wide + 6}" y="{y + 15}">{count:,}</text>'
        )
    return _svg(len(pairs) * _LINE, "".join(parts))


def columns(pairs: Sequence[tuple[str, int]], mark: float | None = None, marked: str = "") -> str:
    """Return upright columns beside each other; ``mark``: where, in columns, a line stands, and what it is called."""
    most, wide = max((count for _, count in pairs), default=0) or 1, _WIDTH / max(1, len(pairs))
    parts = []
    for place, (name, count) in enumerate(pairs):
        tall = max(1, round((_HIGH - 20) * count / most)) if count else 0
        parts.append(
            f'<rect x="{place * wide + 1:.1f}" y="{_HIGH - tall}" width="{max(1.0, wide - 2):.1f}" height="{tall}">'
            f"<title>{html.escape(name)}: {count:,}</title></rect>"
        )
        if place % max(1, len(pairs) // 6) == 0 and place * wide < _WIDTH - 40:
            parts.append(f'<text x="{place * wide:.1f}" y="{_HIGH + 16}">{html.escape(name)}</text>')
    right = mark is None or mark * wide <= _WIDTH / 2
    parts.append(_above(f"tallest: {most:,} rows", _WIDTH if right else 0, right))
    if mark is not None and 0 <= mark <= len(pairs):
        x = mark * wide
        parts.append(f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{_HIGH}"/>{_above(marked, x + (4 if right else -4), not right)}')
    return _svg(_HIGH + _FOOT, "".join(parts))


def _above(text: str, x: float, before: bool) -> str:
    side = ' text-anchor="end"' if before else ""
    return f'<text x="{x:.1f}" y="12"{side}>{html.escape(text)}</text>'


def _svg(high: int, inside: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {max(1, high)}" role="img">{inside}</svg>'
