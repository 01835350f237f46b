"""Markdown and text in pieces that end at paragraphs, each with the line that it begins in."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import rows

SUFFIXES = (".md", ".markdown", ".txt", ".text")
_HEADING = re.compile(r"#{1,6} ")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_FIELD = re.compile(r"(date|timestamp|created_at|tags):\s*(.+)")
_HEAD_LINES = 100


def read(stream: io.BufferedReader[Any], name: str, most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, row of text) for each piece of a document; date and tags of its front matter go to every one."""
    markdown = name.lower().endswith((".md", ".markdown"))
    lines = iter(rows.text_lines(stream, name))
    shared: dict[str, Any] = {}
    held: list[tuple[int, str]] = []
    if markdown:
        shared, held = _front_matter(lines)
    piece, first, size, empty = list[str](), 0, 0, True
    for line, paragraph in _paragraphs(_after(held, lines), markdown):
        heading = markdown and _HEADING.match(paragraph)
        if piece and (heading or size + len(paragraph) > most):
            empty = False
            yield first, {"text": "\n\n".join(piece), **shared}
            piece, size = [], 0
        for part in _cut(paragraph, most):
            if piece and size + len(part) > most:
                yield first, {"text": "\n\n".join(piece), **shared}
                piece, size, empty = [], 0, False
            first = first if piece else line
            piece.append(part)
            size += len(part) + 2
    if piece:
        yield first, {"text": "\n\n".join(piece), **shared}
    elif empty:
        raise rows.RowError(name, 1, "no text in this file")


def _after(held: list[tuple[int, str]], lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield from held
    yield from lines


def _front_matter(lines: Iterator[tuple[int, str]]) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """Return the fields at the head of a document, and the lines that were read but belong to its text."""
    held: list[tuple[int, str]] = []
    for number, line in lines:
        held.append((number, line))
        if number == 1 and line.strip() != "---":
            return {}, held
        if number > 1 and line.strip() in ("---", "..."):
            break
        if number > _HEAD_LINES:
            return {}, held
    else:
        return {}, held
    found = (_FIELD.match(line.strip()) for _, line in held)
    return {match[1]: match[2].strip("[]\"' ").replace('"', "") for match in found if match}, []


def _paragraphs(lines: Iterator[tuple[int, str]], markdown: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, paragraph); a block of code is one, blank lines and all, and a heading begins one."""
    first, held, fence = 0, list[str](), ""
    for number, line in lines:
        line = line.rstrip("\r\n")
        mark = _FENCE.match(line) if markdown else None
        if mark and (not fence or fence == mark[1]):
            fence = "" if fence else mark[1]
        if (held and not fence and not line.strip()) or (markdown and not fence and held and _HEADING.match(line)):
            yield first, "\n".join(held)
            held = []
        if line.strip() or fence:
            first = first if held else number
            held.append(line.rstrip())
    if held:
        yield first, "\n".join(held)


def _cut(paragraph: str, most: int) -> Iterator[str]:
    """Yield a paragraph in parts that are no longer than a piece may be, cut at blank space where there is some."""
    while len(paragraph) > most:
        at = max(paragraph.rfind(" ", most // 2, most), paragraph.rfind("\n", most // 2, most))
        at = at if at > 0 else most
        yield paragraph[:at]
        paragraph = paragraph[at:].lstrip()
    if paragraph:
        yield paragraph
