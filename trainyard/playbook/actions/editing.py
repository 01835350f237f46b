"""lineinfile, blockinfile, replace: the file is read, its new text is made here with Python's expressions, and put back."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import AnyStr

from trainyard.errors import PodFailed, UserError
from trainyard.playbook.actions.placement import BACKUP, OWNERSHIP, VALIDATE, checked_by, owned_by, plain_path
from trainyard.playbook.natives import Variables
from trainyard.playbook.places import Placement
from trainyard.playbook.schema import Arg, Schema, text_or_none
from trainyard.playbook.steps import Edit, Edited, Step

_PATH = Arg("path", "path", required=True, aliases=("dest", "destfile", "name"))
_WHERE = (Arg("insertafter"), Arg("insertbefore"), Arg("create", "bool"), *BACKUP, *OWNERSHIP, *VALIDATE)
_STATE = Arg("state", choices=("present", "absent"))
LINEINFILE = Schema(
    "lineinfile",
    (
        _PATH, _STATE, Arg("line", aliases=("value",)), Arg("regexp", aliases=("regex",)), Arg("search_string"), Arg("backrefs", "bool"),
        Arg("firstmatch", "bool"), *_WHERE,
    ),
    again="writes",
    does="one line of a file: put in the place of what an expression finds, added where it is missing, or removed",
)  # fmt: skip
BLOCKINFILE = Schema(
    "blockinfile",
    (
        _PATH, _STATE, Arg("block", aliases=("content",)), Arg("marker"), Arg("marker_begin"), Arg("marker_end"),
        Arg("append_newline", "bool"), Arg("prepend_newline", "bool"), *_WHERE,
    ),
    again="writes",
    does="some lines of a file between two marks, by which they are known the next time",
)  # fmt: skip
REPLACE = Schema(
    "replace",
    (
        _PATH, Arg("regexp", required=True), Arg("replace"), Arg("after"), Arg("before"), Arg("encoding"), *BACKUP, *OWNERSHIP, *VALIDATE,
    ),
    again="writes",
    does="everything in a file that an expression finds, by another text",
)  # fmt: skip
_END = b"\r\n"


def lineinfile(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a file hold a line, or none such."""
    _not_both(args, "lineinfile", ("insertafter", "insertbefore"), ("regexp", "search_string"), ("backrefs", "search_string"))
    finds = _finder(args)
    line = None if args.get("line") is None else _bytes(args["line"])
    if args.get("state") == "absent":
        if finds is None and line is None:
            raise UserError("'lineinfile': 'state: absent' needs 'line', 'regexp' or 'search_string'")
        return _edit(args, lambda rows: _without(rows, finds or (lambda row: row.rstrip(_END) == line)))
    if line is None or (args.get("backrefs") and "regexp" not in args):
        raise UserError("'lineinfile': " + ("'line' is missing" if line is None else "'backrefs' goes with 'regexp'"))
    anchor = _anchor(args)
    first = bool(args.get("firstmatch"))
    return _edit(args, lambda rows: _with_line(rows, line, finds, anchor, first=first, backrefs=bool(args.get("backrefs"))))


def blockinfile(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a file hold lines between two marks, or neither."""
    _not_both(args, "blockinfile", ("insertafter", "insertbefore"))
    marker = str(args.get("marker", "# {mark} ANSIBLE MANAGED BLOCK"))
    begin, end = (
        _bytes(marker.replace("{mark}", str(args.get(name, word)))) + b"\n"
        for name, word in (("marker_begin", "BEGIN"), ("marker_end", "END"))
    )
    there = args.get("state") != "absent"
    text = _bytes(args.get("block", ""))
    rows = [begin, *_rows(_ended(text)), end] if there and text else []
    anchor = _anchor(args)
    before, after = (there and bool(args.get(name)) for name in ("prepend_newline", "append_newline"))
    return _edit(args, lambda old: _with_block(old, rows, (begin, end), anchor, before=before, after=after))


def replace(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Replace what an expression finds, everywhere or between two others."""
    pattern = _compiled(str(args["regexp"]), "regexp", re.MULTILINE)
    after, before = args.get("after") or "", args.get("before") or ""
    part = _compiled(f"{after}(?P<subsection>.*{'?' if after and before else ''}){before}", "after' or 'before", re.DOTALL)
    new, encoding = str(args.get("replace", "")), str(args.get("encoding", "utf-8"))
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise UserError(f"'replace': there is no encoding '{encoding}'") from None

    def change(data: bytes | None) -> Edited:
        if data is None:
            raise PodFailed(f"there is no file {args['path']}")
        text = data.decode(encoding, "surrogateescape")
        first, last = 0, len(text)
        if after or before:
            section = part.search(text)
            if section is None:
                return Edited(None, {"msg": f"'after' and 'before' are nowhere in {args['path']}"})
            first, last = section.span("subsection")
        try:
            changed, count = pattern.subn(new, text[first:last])
        except (re.error, IndexError) as error:
            raise UserError(f"'replace': {error}") from None
        if changed == text[first:last]:
            return Edited(None, {"msg": ""})
        return Edited((text[:first] + changed + text[last:]).encode(encoding, "surrogateescape"), {"msg": f"{count} replacements made"})

    return Edit(_placement(args), change)


Rows = list[bytes]
Finds = Callable[[bytes], re.Match[bytes] | bool | None]


def _edit(args: Mapping[str, object], change: Callable[[Rows], tuple[Rows, dict[str, object]]]) -> Edit:
    def edit(data: bytes | None) -> Edited:
        there, absent = data is not None, args.get("state") == "absent"
        if not there and absent:
            return Edited(None, {"msg": "file not present"})
        if not there and not args.get("create"):
            raise PodFailed(f"there is no file {args['path']} ('create: true' makes it)")
        rows, result = change(_rows(data or b""))
        new = b"".join(rows)
        return Edited(None if new == data else new, {"backup": "", **result, **({} if new != data else {"msg": ""})})

    return Edit(_placement(args), edit)


def _placement(args: Mapping[str, object]) -> Placement:
    return Placement(
        plain_path(args["path"]), owned_by(args), backup=bool(args.get("backup")), follow=True, parents=bool(args.get("create")),
        unsafe=bool(args.get("unsafe_writes")), validate=checked_by(str(args.get("validate") or "")),
    )  # fmt: skip


def _with_line(
    rows: Rows, line: bytes, finds: Finds | None, anchor: tuple[bool, Finds | None], *, first: bool, backrefs: bool
) -> tuple[Rows, dict[str, object]]:
    """Return the rows with the line among them, and what was done."""
    at = None if finds is None else _place(rows, finds, first=first)
    if at is not None:
        match = finds(rows[at]) if finds else None
        new = match.expand(line) if backrefs and isinstance(match, re.Match) else line
        return [*rows[:at], _ended(new), *rows[at + 1 :]], {"msg": "line replaced"}
    after, finds_anchor = anchor
    beside = None if finds_anchor is None else _place(rows, finds_anchor, first=first)
    # With 'firstmatch' the search ends at the anchor: a line of this kind behind it is another one.
    scope = rows if not first or beside is None else rows[: beside + 1]
    same = _place(scope, lambda row: row.rstrip(_END) == line, first=False)
    if same is not None:
        return [*rows[:same], _ended(line), *rows[same + 1 :]], {"msg": "line replaced"}
    if backrefs:
        return rows, {"msg": ""}
    added: dict[str, object] = {"msg": "line added"}
    if finds_anchor is None and not after:
        return [_ended(line), *rows], added
    where = len(rows) if beside is None else beside + 1 if after else beside
    if after and rows[where : where + 1] and rows[where].rstrip(_END) == line:
        return rows, {"msg": ""}
    return [*_closed(rows[:where]), _ended(line), *rows[where:]], added


def _without(rows: Rows, finds: Finds) -> tuple[Rows, dict[str, object]]:
    kept = [row for row in rows if not finds(row)]
    return kept, {"msg": f"{len(rows) - len(kept)} line(s) removed", "found": len(rows) - len(kept)}


def _with_block(
    rows: Rows, block: Rows, marks: tuple[bytes, bytes], anchor: tuple[bool, Finds | None], *, before: bool, after: bool
) -> tuple[Rows, dict[str, object]]:
    ends = [_place(rows, lambda row, mark=mark: row == mark, first=False) for mark in marks]  # type: ignore[misc]
    if ends[0] is not None and ends[1] is not None:
        at = min(ends[0], ends[1])
        head, tail = rows[:at], rows[max(ends[0], ends[1]) + 1 :]
    else:
        below, finds = anchor
        place = None if finds is None else _place(rows, finds, first=False)
        at = 0 if finds is None and not below else len(rows) if place is None else place + 1 if below else place
        head, tail = rows[:at], rows[at:]
    head = _closed(head)
    if before and head and head[-1] != b"\n":
        head = [*head, b"\n"]
    if after and tail and tail[0] != b"\n":
        tail = [b"\n", *tail]
    return [*head, *block, *tail], {"msg": "Block inserted" if block else "Block removed"}


def _finder(args: Mapping[str, object]) -> Finds | None:
    """Return what finds the line that is meant, None when only an equal one is."""
    if args.get("regexp") is not None:
        return _compiled(_bytes(args["regexp"]), "regexp").search
    text = text_or_none(args, "search_string")
    return None if text is None else lambda row: _bytes(text) in row


def _anchor(args: Mapping[str, object]) -> tuple[bool, Finds | None]:
    """Return whether new lines go after (or before) what is found, and what finds it: nothing for the end (or the beginning)."""
    after, before = text_or_none(args, "insertafter"), text_or_none(args, "insertbefore")
    if after == "BOF" or before == "BOF":
        return False, None
    if after in (None, "EOF") and before is None:
        return True, None
    pattern = before if after is None else after
    assert pattern is not None
    return after is not None, _compiled(_bytes(pattern), "insertbefore" if after is None else "insertafter").search


def _place(rows: Sequence[bytes], finds: Finds, *, first: bool) -> int | None:
    """Return the number of the first or the last row that is found."""
    numbers = range(len(rows)) if first else reversed(range(len(rows)))
    return next((number for number in numbers if finds(rows[number])), None)


def _closed(rows: Rows) -> Rows:
    """Return rows of which the last one has its end."""
    return rows if not rows or rows[-1].endswith((b"\n", b"\r")) else [*rows[:-1], rows[-1] + b"\n"]


def _rows(data: bytes) -> Rows:
    """Return lines with their ends; only a line feed ends one."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _ended(text: bytes) -> bytes:
    return text if text.endswith(b"\n") else text + b"\n"


def _bytes(text: object) -> bytes:
    return str(text).encode(errors="surrogateescape")


def _compiled(pattern: AnyStr, name: str, flags: int = 0) -> re.Pattern[AnyStr]:
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise UserError(f"'{name}': {error} in: {pattern!r}") from None


def _not_both(args: Mapping[str, object], action: str, *pairs: tuple[str, str]) -> None:
    for one, other in pairs:
        if args.get(one) and args.get(other):
            raise UserError(f"'{action}' takes either '{one}' or '{other}'")
