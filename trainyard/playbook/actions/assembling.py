"""assemble, ini_file: a file of the parts in a folder, and one setting of a file that has sections."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainyard.errors import PodFailed, UserError
from trainyard.playbook.actions import placement
from trainyard.playbook.actions.placement import BACKUP, OWNERSHIP, VALIDATE, owned_by, plain_path
from trainyard.playbook.expressions import SEARCHED
from trainyard.playbook.natives import Variables
from trainyard.playbook.places import Placement
from trainyard.playbook.schema import Arg, Schema, text_or_none
from trainyard.playbook.sources import find_source
from trainyard.playbook.steps import Edit, Edited, Gather, Step

ASSEMBLE = Schema(
    "assemble",
    (
        Arg("src", "path", required=True), Arg("dest", "path", required=True), Arg("delimiter"), Arg("regexp"),
        Arg("ignore_hidden", "bool"), Arg("remote_src", "bool"), *BACKUP, *OWNERSHIP, *VALIDATE,
    ),
    again="writes",
    does="one file of the parts in a folder of the host (of this machine with 'remote_src: false'), in the order of their names",
)  # fmt: skip
INI_FILE = Schema(
    "ini_file",
    (
        Arg("path", "path", required=True, aliases=("dest",)), Arg("section"), Arg("option"), Arg("value"),
        Arg("state", choices=("present", "absent")), Arg("no_extra_spaces", "bool"), Arg("allow_no_value", "bool"),
        Arg("modify_inactive_option", "bool"), Arg("create", "bool"),
        *BACKUP, *OWNERSHIP,
    ),
    again="writes",
    does="a setting of a file with [sections]: there with its value, or gone; without 'option' a whole section",
)  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
Lines = list[str]


def assemble(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a file of the parts in a folder."""
    src, dest = str(args["src"]), plain_path(args["dest"])
    to = Placement(
        dest, owned_by(args), backup=bool(args.get("backup")), unsafe=bool(args.get("unsafe_writes")),
        validate=placement.checked_by(str(args.get("validate") or "")),
    )  # fmt: skip
    try:
        pattern = re.compile(str(args.get("regexp") or ""))
    except re.error as error:
        raise UserError(f"'regexp': {error} in: {args['regexp']!r}") from None
    delimiter = re.sub(r"\\([ntr\\])", lambda match: _ESCAPES[match[1]], str(args.get("delimiter") or "")).encode()

    def made_of(parts: Mapping[str, bytes]) -> bytes:
        hidden = bool(args.get("ignore_hidden"))
        names = sorted(name for name in parts if pattern.search(name) and not (hidden and name.startswith(".")))
        return _joined([parts[name] for name in names], delimiter)

    if args.get("remote_src", True):
        return Gather(plain_path(src), to, made_of)
    searched = variables.get(SEARCHED)
    place = find_source(src, "files", searched if isinstance(searched, tuple) else (folder,))
    if place is None or not place.is_dir():
        raise UserError(f"'assemble': there is no folder {src} here; one of the host is taken without 'remote_src: false'")
    here = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    return placement.put(made_of(here), to, said={"src": src})


def _joined(parts: Sequence[bytes], delimiter: bytes) -> bytes:
    """Return the parts as one, each beginning on a line of its own."""
    whole = b""
    for number, part in enumerate(parts):
        if number and not whole.endswith(b"\n"):
            whole += b"\n"
        if number and delimiter:
            whole += delimiter if delimiter.endswith(b"\n") else delimiter + b"\n"
        whole += part
    return whole


def ini_file(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a section of a file have a setting, or not."""
    section, option, value = (text_or_none(args, name) for name in ("section", "option", "value"))
    there = args.get("state") != "absent"
    if option is None and section is None:
        raise UserError("'ini_file' needs 'section', 'option' or both")
    if there and option is not None and value is None and not args.get("allow_no_value"):
        raise UserError("'ini_file' needs 'value' ('allow_no_value: true' writes the option alone)")
    sign = "=" if args.get("no_extra_spaces") else " = "
    line = None if option is None else option if value is None else f"{option}{sign}{value}"
    inactive = bool(args.get("modify_inactive_option", True))

    def changed(rows: Lines) -> Lines:
        return _with(rows, option, line, inactive=inactive) if there else _without(rows, option)

    def edit(data: bytes | None) -> Edited:
        if data is None and not (there and args.get("create", True)):
            if there:
                raise PodFailed(f"there is no file {args['path']} ('create: true' makes it)")
            return Edited(None, {"msg": "OK"})
        text = (data or b"").decode(errors="surrogateescape")
        rows = text.removesuffix("\n").split("\n") if text else []
        first, last = _bounds(rows, section)
        new = _section(rows, section, line, there=there) if first is None else [*rows[:first], *changed(rows[first:last]), *rows[last:]]
        if not there and option is None and first is not None:
            new = [*rows[: first - 1], *rows[last:]]
        if new == rows and data is not None:
            return Edited(None, {"msg": "OK"})
        whole = "".join(f"{row}\n" for row in new).encode(errors="surrogateescape")
        return Edited(whole, {"msg": "option changed" if there else "option removed" if option else "section removed"})

    to = Placement(plain_path(args["path"]), owned_by(args), backup=bool(args.get("backup")), follow=True, parents=True)
    return Edit(to, edit)


def _bounds(rows: Lines, section: str | None) -> tuple[int | None, int]:
    """Return where the settings of a section begin and end; those of no section stand before the first one."""
    heads = [number for number, row in enumerate(rows) if re.match(r"\s*\[.*\]", row)]
    if section is None:
        return 0, heads[0] if heads else len(rows)
    first = next((number + 1 for number in heads if rows[number].strip() == f"[{section}]"), None)
    return first, next((number for number in heads if first is not None and number >= first), len(rows))


def _section(rows: Lines, section: str | None, line: str | None, *, there: bool) -> Lines:
    """Return the rows with a section at their end that was not there."""
    return [*rows, f"[{section}]", *([line] if line is not None else [])] if there else rows


def _with(rows: Lines, option: str | None, line: str | None, *, inactive: bool) -> Lines:
    """Return the settings of a section with one that has this line, in the place of the one that is there."""
    if option is None or line is None:
        return rows
    same = [number for number, row in enumerate(rows) if _names(row, option)]
    asleep = [number for number, row in enumerate(rows) if inactive and _names(row, option, inactive=True)]
    if there := same or asleep[:1]:
        return [line if number == there[0] else row for number, row in enumerate(rows) if number == there[0] or number not in there]
    last = next((number + 1 for number in reversed(range(len(rows))) if not re.fullmatch(r"[ \t]*([#;].*)?", rows[number])), 0)
    return [*rows[:last], line, *rows[last:]]


def _without(rows: Lines, option: str | None) -> Lines:
    return [row for row in rows if option is None or not _names(row, option)]


def _names(row: str, option: str, *, inactive: bool = False) -> bool:
    """Tell whether a row is the setting of this name; ``inactive``: one that is a comment."""
    return bool(re.match(rf"{'[#;]' if inactive else ''}[ \t]*{re.escape(option)}[ \t]*(=|$)", row.lstrip() if inactive else row))
