"""A case: a playbook that anyone can add as a file, and beside it what comes of it.

``ok/NAME.yml`` is the playbook; its first comment lines say what it shows. What it needs beside it (files/, templates/, roles/, task files,
hosts.ini) lies in ``ok/NAME.d/``. A comment ``# run: {...}`` says how it is run: hosts (or inventory: a file), limit, extra, check, diff,
tags, skip_tags, start_at, again (whether a second run is of interest). Its variable ``tmp`` is an empty folder; what it leaves there is in
``ok/NAME.out``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "ok"
COUNTERS = ("ok", "changed", "unreachable", "failed", "skipped", "rescued", "ignored")
_WORDS = {"hosts", "inventory", "limit", "extra", "check", "diff", "tags", "skip_tags", "start_at", "again"}
_SHORT = 100
"""Files and messages of so many characters stand as they are, longer ones as their sha256."""


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One file of ok/."""

    name: str
    path: Path
    options: Mapping[str, Any]

    @property
    def hosts(self) -> list[str]:
        """Return the names of its hosts; each is this machine."""
        return list(self.options.get("hosts", ["pod"]))

    @property
    def expected(self) -> Path:
        """Return the file that holds what comes of it."""
        return self.path.with_suffix(".out")

    @property
    def peer(self) -> Path:
        """Return the file that holds what ansible-core does, where that is something else."""
        return self.path.with_suffix(".ansible")

    def key(self) -> str:
        """Return the sha256 of all that belongs to it."""
        beside = self.path.with_suffix(".d")
        seen = hashlib.sha256(self.path.read_bytes())
        for file in sorted(path for path in beside.rglob("*") if path.is_file()):
            seen.update(f"\0{file.relative_to(beside)}\0".encode() + file.read_bytes())
        return seen.hexdigest()

    def lay_out(self, place: Path) -> Place:
        """Put it into a folder of its own."""
        if (beside := self.path.with_suffix(".d")).is_dir():
            shutil.copytree(beside, place, symlinks=True, dirs_exist_ok=True)
        shutil.copyfile(self.path, place / "play.yml")
        (place / "tmp" / "home").mkdir(parents=True)
        return Place(self, place)


@dataclass(frozen=True, slots=True)
class Place:
    """A case where it is run."""

    case: GoldenCase
    folder: Path

    @property
    def tmp(self) -> Path:
        """Return the folder that the playbook writes to; HOME is below it."""
        return self.folder / "tmp"

    @property
    def extra(self) -> dict[str, Any]:
        """Return its extra variables."""
        return {"tmp": str(self.tmp), **self.case.options.get("extra", {})}


@dataclass(slots=True)
class Course:
    """What happened in one run: an outcome a line, those of one task sorted by host."""

    ended: str = "ok"
    recap: dict[str, dict[str, int]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    _together: list[tuple[str, str]] = field(default_factory=list)

    def head(self, text: str) -> None:
        """Begin a play, a task or a handler."""
        self._flush()
        self.lines.append(text)

    def outcome(self, host: str, status: str, label: object = None, said: object = None) -> None:
        """Add how a task, or one item of its loop, ended on a host."""
        item = "" if label is None else f" (item={label})"
        words = "" if said is None else "\0" + json.dumps(said, sort_keys=True, default=str)
        self._together.append((host, f"  {host} {status}{item}{words}"))

    def count(self, host: str, numbers: Mapping[str, int]) -> None:
        """Keep the counters of a host."""
        self._flush()
        self.recap[host] = {name: numbers[name] for name in COUNTERS if numbers.get(name)}

    def summary(self) -> list[str]:
        """Return how it ended, and the counters."""
        rows = (f"  {host} " + " ".join(f"{name}={number}" for name, number in row.items()) for host, row in sorted(self.recap.items()))
        return [f"ended {self.ended}", *(row.rstrip() for row in rows)]

    def _flush(self) -> None:
        self.lines += [line for _, line in sorted(self._together, key=lambda pair: pair[0])]
        self._together.clear()


def cases() -> list[GoldenCase]:
    """Return all cases."""
    return [read(path) for path in sorted(FOLDER.glob("*.yml"))]


def read(path: Path) -> GoldenCase:
    """Read a case."""
    words: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("# run:"):
            words = yaml.safe_load(line.removeprefix("# run:"))
            assert not set(words) - _WORDS, f"{path}: a case knows {', '.join(sorted(_WORDS))}"
    return GoldenCase(path.stem, path, words)


def both_runs(place: Place, run: Callable[[Place], Course]) -> str:
    """Run a case twice and return all that is to be compared, as a text."""
    umask = os.umask(0o022)
    try:
        first = run(place)
        lines, after = [*first.lines, *first.summary()], tree(place.tmp)
        again = run(place) if place.case.options.get("again", True) else None
        if again is not None:
            lines += ["again", *again.summary()]
        lines += ["tree", *after]
        if again is not None and (later := tree(place.tmp)) != after:
            lines += ["tree after that", *later]
    finally:
        os.umask(umask)
    return "".join(_anywhere(line, place) + "\n" for line in lines)


def _anywhere(line: str, place: Place) -> str:
    """Return a line as it is wherever the case lies; what was said is shortened only then."""
    head, mark, said = line.replace(str(place.tmp), "TMP").replace(str(place.folder), "HERE").partition("\0")
    return f"{head} {short(said)}" if mark else head


def tree(folder: Path) -> list[str]:
    """Return all that lies below a folder: kind, mode, name, and content."""
    return list(_entries(folder, folder))


def _entries(folder: Path, top: Path) -> Iterable[str]:
    for entry in sorted(folder.iterdir()):
        status, name = entry.lstat(), str(entry.relative_to(top))
        name = name if name.isprintable() and name == name.strip() else repr(name)
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        if entry.is_symlink():
            yield f"  link {name} -> {os.readlink(entry)}"
        elif entry.is_dir():
            if name != "home" or any(entry.iterdir()):
                yield f"  dir  {mode} {name}"
            yield from _entries(entry, top)
        elif entry.is_file():
            yield f"  file {mode} {name} {_content(entry.read_bytes(), top)}"
        else:
            yield f"  odd  {mode} {name}"


def _content(data: bytes, top: Path) -> str:
    try:
        text = data.decode().replace(str(top), "TMP")
        return short(json.dumps(text, ensure_ascii=not text.replace("\n", "").replace("\t", "").isprintable()))
    except UnicodeDecodeError:
        return f"sha256 {hashlib.sha256(data).hexdigest()[:16]} of {len(data)}"


def short(text: str) -> str:
    """Return a text, or the sha256 of one that is long."""
    if len(text) <= _SHORT:
        return text
    return f"{text[:40]}... sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]} of {len(text)}"
