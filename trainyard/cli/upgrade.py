"""`trainyard upgrade`: what this version would write where an earlier one wrote, as a diff; what nobody changed can be replaced."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainyard import __version__
from trainyard.cli import scaffold
from trainyard.cli.init import IGNORE, append_lines, missing_lines
from trainyard.cli.scaffold import Record
from trainyard.errors import UserError
from trainyard.files import write_atomic


@dataclass(frozen=True, slots=True)
class Change:
    """One file that this version writes in another way."""

    path: str
    before: str
    """As the file is now."""
    after: str
    state: str
    """untouched: as init wrote it; changed: somebody's own by now; new: not there yet; removed: somebody took it away."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """All that differs between what was written and what this version writes."""

    root: Path
    record: Record
    changes: tuple[Change, ...]
    lines: tuple[str, ...]
    """Lines that .gitignore lacks."""
    settled: dict[str, str]
    """Hashes of texts that are there as this version writes them, whatever the note says."""


def compare(root: Path) -> Upgrade:
    """Compare; raises UserError where no init was."""
    record = scaffold.read_record(root)
    if record is None:
        hint = "Trainyard notes there what it wrote. To have it: trainyard init (nothing that is there is changed)"
        raise UserError(f"{root}: there is no {scaffold.RECORD}", hint=hint)
    changes, settled = [], {}
    for path, after in scaffold.texts(record.choices).items():
        noted, there = record.files.get(path), scaffold.text_at(root / path)
        if there == after:
            settled[path] = scaffold.digest(after)
        elif not os.path.lexists(root / path) and (noted is None or path in scaffold.RESTORED):
            changes.append(Change(path, "", after, "new"))
        elif noted not in (None, scaffold.digest(after)) or path in scaffold.NOT_EDITED:
            left = "changed" if os.path.lexists(root / path) else "removed"
            changes.append(Change(path, there or "", after, "untouched" if record.untouched(path, there) else left))
    return Upgrade(root, record, tuple(changes), tuple(missing_lines(root)), settled)


def apply(upgrade: Upgrade) -> list[str]:
    """Write what nobody has changed since; returns the paths that were written."""
    done = {change.path: change.after for change in upgrade.changes if change.state in ("untouched", "new")}
    append_lines(upgrade.root, upgrade.lines, [])
    for path, text in done.items():
        file = upgrade.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, text, durable=False, mode=scaffold.mode(path))
    record, hashes = upgrade.record, {path: scaffold.digest(text) for path, text in done.items()}
    scaffold.write_record(upgrade.root, Record(__version__, record.choices, {**record.files, **upgrade.settled, **hashes}))
    return [*done, *([IGNORE] if upgrade.lines else [])]


def diff(upgrade: Upgrade) -> Iterator[str]:
    """Yield the lines of a unified diff from what is there to what this version writes."""
    for change in upgrade.changes:
        if change.state == "removed":
            continue
        before, after = change.before.splitlines(), change.after.splitlines()
        source = f"a/{change.path}" if change.state != "new" else "/dev/null"
        yield from difflib.unified_diff(before, after, source, f"b/{change.path}", lineterm="")
    if upgrade.lines:
        yield from difflib.unified_diff([], upgrade.lines, f"a/{IGNORE}", f"b/{IGNORE}", lineterm="")


def report_lines(upgrade: Upgrade, written: list[str] | None) -> Iterator[str]:
    """Yield what a person reads beside the diff; ``written`` is None where nothing was asked to be written."""
    by_state = {state: [change.path for change in upgrade.changes if change.state == state] for state in ("changed", "removed")}
    versions = f"init wrote {upgrade.record.version}, this is {__version__}"
    if not upgrade.changes and not upgrade.lines:
        yield f"nothing to change ({versions})"
        return
    if written is None:
        yield f"{versions}. To write what nobody has changed: trainyard upgrade --write"
    elif written:
        yield f"wrote      {', '.join(written)}"
    for path in by_state["changed"]:
        own = "; to have Trainyard's, remove it first" if path in scaffold.NOT_EDITED else ""
        yield f"left       {path}: it was changed here; in the diff above + is new, - may be yours{own}"
    for path in by_state["removed"]:
        yield f"left out   {path}: it was removed here"
