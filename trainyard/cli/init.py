"""`trainyard init`: make a folder a repository of Trainyard's. What is there stays as it is; all is written, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainyard import __version__
from trainyard.cli import scaffold
from trainyard.cli.scaffold import PROJECT_FILE, RECORD, RESTORED, Choices, Record
from trainyard.config import is_repository
from trainyard.errors import UserError
from trainyard.files import write_atomic, write_new
from trainyard.shipped import checkout
from trainyard.textfile import read_text

IGNORE = ".gitignore"
_BY_HAND = {
    "tasks.py": (
        b"trainyard.cli.verbs",
        "for `invoke` to offer Trainyard's verbs: from trainyard.cli.verbs import verbs; ns = verbs()",
    ),
    "infra/__main__.py": (b"trainyard.program", "it must call, beside what it does: from trainyard.program import compose; compose()"),
    PROJECT_FILE: (b"infra/provider", "add what is missing: main: infra/ and packages: {trainyard: ./infra/provider}"),
}
"""A file that may be somebody's own already: what shows that nothing is missing in it, and what to add otherwise."""


@dataclass(frozen=True, slots=True)
class InitPlan:
    """What an init is about to do in a folder."""

    root: Path
    choices: Choices
    new: dict[str, str]
    """Text by path, in the order they are written."""
    same: dict[str, str]
    """What is there already as it would be written."""
    renewed: dict[str, str]
    """What an earlier init wrote, nobody has changed since, and the choices make another text of."""
    kept: dict[str, tuple[str, ...]]
    """Files that are somebody's own, or were changed since, with the lines that the choices bring and they lack."""
    removed: list[str]
    """What an earlier init wrote and somebody has removed: it stays away."""
    lines: tuple[str, ...]
    """Lines to be added to .gitignore."""
    record: Record | None


def plan(root: Path, choice: Choices) -> InitPlan:
    """Look at a folder; raises UserError where nothing can or may be written there. Writes nothing."""
    _refuse(root)
    record = scaffold.read_record(root)
    chosen = record.choices.joined(choice) if record else choice
    planned = InitPlan(root, chosen, {}, {}, {}, {}, [], tuple(missing_lines(root)), record)
    plain = scaffold.texts(Choices())
    for path, text in scaffold.texts(chosen).items():
        there = scaffold.text_at(root / path)
        if there == text:
            planned.same[path] = text
        elif record and record.version == __version__ and record.untouched(path, there):
            planned.renewed[path] = text
        elif os.path.lexists(root / path):
            planned.kept[path] = _brought(text, plain.get(path, text), there or "")
        elif record and path in record.files and path not in RESTORED:
            planned.removed.append(path)
        else:
            _refuse_parents(root, path)
            planned.new[path] = text
    return planned


def write(planned: InitPlan) -> None:
    """Write all that is planned; whatever goes wrong, what was written is taken away again and the error raised."""
    undo: list[Callable[[], object]] = []
    try:
        _make_folder(planned.root, undo)
        append_lines(planned.root, planned.lines, undo)
        for path, text in planned.new.items():
            if path == PROJECT_FILE:
                _note(planned, undo)
            _make_folder((planned.root / path).parent, undo)
            if not write_new(planned.root / path, text, durable=False, mode=scaffold.mode(path)):
                raise UserError(f"{planned.root / path} has appeared while this was at work", hint="Say it again: it is left as it is.")
            undo.append((planned.root / path).unlink)
        for path, text in planned.renewed.items():
            undo.append(_written_over(planned.root / path, text))
        if PROJECT_FILE not in planned.new:
            _note(planned, undo)
    except BaseException:
        for step in reversed(undo):
            step()
        raise


def report_lines(planned: InitPlan) -> Iterator[str]:
    """Yield what a person reads of a plan that was carried out."""
    for path in planned.new:
        yield f"wrote      {path}"
    if planned.lines:
        yield f"{IGNORE} now has {' '.join(planned.lines)}"
    for path in planned.renewed:
        yield f"renewed    {path}: nobody had changed it"
    for path, lines in planned.kept.items():
        hint = missing_by_hand(planned.root, path)
        yield f"left       {path}, as it is"
        if lines or hint:
            yield f"           {hint or f'add to it: {chr(32).join(lines)}'}"
    for path in planned.removed:
        yield f"left out   {path}: it was removed here (to have it again, take its line out of {RECORD})"
    if not planned.new and not planned.renewed and not planned.lines:
        yield "nothing was written" if planned.removed else "all is there: nothing was written"


def missing_by_hand(root: Path, path: str) -> str | None:
    """Return what somebody has to add to a file of his own, None when nothing is missing in it."""
    sign, what = _BY_HAND.get(path, (b"", ""))
    try:
        return what if what and sign not in (root / path).read_bytes() else None
    except OSError:
        return what or None


def missing_lines(root: Path) -> list[str]:
    """Return the lines that .gitignore lacks."""
    try:
        there = {line.strip().lstrip("/").rstrip("/") for line in read_text(root / IGNORE, IGNORE).splitlines()}
    except FileNotFoundError:
        there = set()
    return [line for line in scaffold.ignored() if line.rstrip("/") not in there]


def append_lines(root: Path, lines: tuple[str, ...] | list[str], undo: list[Callable[[], object]]) -> None:
    """Add lines to .gitignore, with the line ends that it has."""
    path = (root / IGNORE).resolve()  # a link stays one
    if not lines:
        return
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        write_new(path, "".join(f"{line}\n" for line in lines), durable=False)
        undo.append(path.unlink)
        return
    end = b"\r\n" if b"\r\n" in before else b"\n"
    start = before if not before or before.endswith(b"\n") else before + end
    mode = path.stat().st_mode & 0o777
    write_atomic(path, start + b"".join(line.encode() + end for line in lines), durable=False, mode=mode)
    undo.append(lambda: write_atomic(path, before, durable=False, mode=mode))


def _note(planned: InitPlan, undo: list[Callable[[], object]]) -> None:
    """Note what was written, so that a later version can show what it would write instead."""
    before = planned.record
    if before and not planned.new and not planned.renewed and before.choices == planned.choices:
        return
    same, fresh = ({path: scaffold.digest(text) for path, text in each.items()} for each in (planned.same, planned.new | planned.renewed))
    files = {**same, **(before.files if before else {}), **fresh}
    scaffold.write_record(planned.root, Record(before.version if before else __version__, planned.choices, files))
    undo.append((lambda: scaffold.write_record(planned.root, before)) if before else (planned.root / RECORD).unlink)


def _make_folder(folder: Path, undo: list[Callable[[], object]]) -> None:
    for each in reversed([folder, *folder.parents]):
        if not each.is_dir():
            each.mkdir()
            undo.append(each.rmdir)


def _refuse(root: Path) -> None:
    if root == Path(root.anchor):
        raise UserError(f"{root} is no place for a repository", hint="Name a folder: trainyard init DIR")
    if root == checkout():
        raise UserError(f"{root} is the checkout of Trainyard itself", hint="For a repository of your own: trainyard init DIR")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is not a folder")
    if (root / PROJECT_FILE).exists() and not is_repository(root):
        raise UserError(
            f"{root / PROJECT_FILE} is another Pulumi project's",
            hint="One folder holds one project. Take a folder of its own below this one, e.g.: trainyard init training",
        )


def _refuse_parents(root: Path, path: str) -> None:
    for parent in (root / path).parents:
        if os.path.lexists(parent):
            if not parent.is_dir():
                raise UserError(f"{parent} is not a folder: {path} cannot be written", hint="Nothing was written.")
            if not os.access(parent, os.W_OK | os.X_OK):
                raise UserError(f"{parent} cannot be written to", hint="Nothing was written.")
            return


def _brought(text: str, plain: str, there: str) -> tuple[str, ...]:
    """Return the lines that choices bring into a file and that it lacks; what is only a comment is none."""
    known = {*plain.splitlines(), *there.splitlines()}
    return tuple(line for line in text.splitlines() if line and not line.startswith("#") and line not in known)


def _written_over(path: Path, text: str) -> Callable[[], object]:
    """Write a file anew, as it is ended and allowed now, and return what puts it back."""
    before, mode = path.read_bytes(), path.stat().st_mode & 0o777
    write_atomic(path, text.replace("\n", "\r\n") if b"\r\n" in before else text, durable=False, mode=mode)
    return lambda: write_atomic(path, before, durable=False, mode=mode)
