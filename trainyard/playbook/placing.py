"""Put and fetch files for tasks: what changes, what would change, and the difference as people read it."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from trainyard.errors import PodFailed, UserError
from trainyard.files import sha256_of
from trainyard.playbook.actions import placement
from trainyard.playbook.steps import Edit, Gather, Get, Outcome, PutFile, PutTree, Script
from trainyard.remote import transfer, tree
from trainyard.remote.download import Brought, fetch
from trainyard.remote.excludes import excluding
from trainyard.remote.fed import in_front, with_hidden
from trainyard.remote.protocol import CommandResult, Transport, with_environment, with_values
from trainyard.remote.upload import beside
from trainyard.shellscript import load

_EDIT_LIMIT = 16 * 1024 * 1024
"""Bytes of a file whose lines are changed here."""
_NOTHING: Mapping[str, object] = MappingProxyType({})


def place(step: PutFile | PutTree | Get | Edit | Gather, t: Transport, *, check: bool, diff: bool) -> Outcome:
    """Carry out one of the steps that move files; with ``check`` only say what would change."""
    match step:
        case PutFile():
            return _put_file(step, t, check=check, diff=diff)
        case PutTree():
            return _put_tree(step, t, check=check)
        case Get():
            return _get(step, t, check=check)
        case Edit():
            return _edit(step, t, check=check, diff=diff)
        case Gather():
            return run_script(placement.put(step.make(_parts(step.src, t)), step.to, said={"src": step.src}), t, check=check, diff=diff)


def request(step: Script, *, check: bool, diff: bool, environment: Mapping[str, object] = _NOTHING) -> tuple[str, bytes]:
    """Return a script of an action as it is run, and what stands in front of its input."""
    settings = with_environment(with_values("", **step.hidden), environment)
    return with_hidden(settings, with_values(step.text, check=int(check), diff=int(diff), **step.values))


def run_script(step: Script, t: Transport, *, check: bool, diff: bool, environment: Mapping[str, object] = _NOTHING) -> Outcome:
    """Run a script of an action and read what it says. Raises PodFailed when it could not do it."""
    text, first = request(step, check=check, diff=diff, environment=environment)
    if step.file is None:
        done = t.exec(text, in_front(first, step.stdin))
    else:
        with step.file.open("rb") as stream:
            done = t.exec(text, in_front(first, stream))
    return answer_of(step, done)


def answer_of(step: Script, done: CommandResult) -> Outcome:
    """Return what a script of an action has said. Raises PodFailed when it could not do it."""
    if done.rc:
        raise PodFailed(done.error_text or f"exit code {done.rc}")
    return step.read(done)


def _edit(step: Edit, t: Transport, *, check: bool, diff: bool) -> Outcome:
    """Read the file, compute what shall be there, and put it: the expressions are Python's, the host has only sh."""
    done = t.exec(with_values(load(__package__, "text"), path=step.to.path, limit=_EDIT_LIMIT))
    if done.rc:
        raise PodFailed(done.error_text or f"exit code {done.rc}")
    before = done.stdout[1:] if done.stdout.startswith(b"+") else None
    edited = step.change(before)
    data = before if edited.data is None else edited.data
    if data is None or (edited.data is None and not step.to.owned.wished):
        return {"changed": False, **edited.result}
    was = "absent" if before is None else hashlib.sha256(before).hexdigest()
    outcome = run_script(placement.put(data, step.to, was=was), t, check=check, diff=diff)
    return {**outcome, **edited.result}


def _parts(src: str, t: Transport) -> dict[str, bytes]:
    """Return what the files of a folder hold, by their names."""
    done = t.exec(with_values(load(__package__, "parts"), src=src, limit=_EDIT_LIMIT))
    if done.rc:
        raise PodFailed(done.error_text or f"exit code {done.rc}")
    parts: dict[str, bytes] = {}
    rest = done.stdout
    while rest:
        name, size, rest = rest.split(b"\0", 2)
        parts[os.fsdecode(name)], rest = rest[: int(size)], rest[int(size) :]
    return parts


def _put_file(step: PutFile, t: Transport, *, check: bool, diff: bool) -> Outcome:
    """Ask whether the file is needed, send it under another name, which goes on after a cut, and give it its place."""
    source = {"src": str(step.src)}
    try:
        with ThreadPoolExecutor(1) as pool:
            # Hashed while the host is reached and begins to look.
            hashing = pool.submit(sha256_of, step.src)
            ask = placement.ask(step.to, source)
            text, _ = request(ask, check=check, diff=diff)
            asking = t.exec(text, _Awaited(hashing))
            sha256 = hashing.result()
        source["sha256"] = sha256
        asked = {**source, **answer_of(ask, asking)}
        needs = asked.pop("needs", None)
        if needs is None:
            return asked
        # Of its own name, which is short: that of the file may be as long as names can be.
        part = posixpath.join(posixpath.dirname(str(needs)), f".new-{sha256[:16]}")
        take = placement.take(part, replace(step.to, path=str(needs), name="", into=False), source)
        try:
            proof = transfer.send_file(t, step.src, part, sha256=sha256)
            text, _ = request(take, check=False, diff=False)
            outcome = answer_of(take, t.exec(f"{proof}\n{text}"))
        except PodFailed:
            # What has come would only fill a full disk; after a lost link it stays, and the next try goes on.
            t.exec(with_values('rm -f "$part" "$slices"*', part=part, slices=beside(part, "")))
            raise
    except OSError as error:
        raise UserError(f"{step.src}: cannot be read: {error.strerror}") from None
    return {**outcome, "changed": True, **({"diff": asked["diff"]} if "diff" in asked else {})}


class _Awaited:
    """Input of one line, which is not known yet; none when it cannot be had."""

    def __init__(self, line: Future[str]) -> None:
        self._line: Future[str] | None = line

    def read(self, _count: int = -1, /) -> bytes:
        """Return the line, then nothing."""
        line, self._line = self._line, None
        if line is None or line.exception():
            return b""
        return line.result().encode() + b"\n"


def _put_tree(step: PutTree, t: Transport, *, check: bool) -> Outcome:
    skip = excluding(step.excludes, step.top)
    modes: Literal["same", "keep"] = "same" if step.owned.mode == "preserve" else "keep"
    rules = tree.TreeRules(modes, step.force, step.links, skip, step.delete)
    if check:
        names = tree.differing(t, step.src, step.path, rules=rules)
    else:
        names = tree.put_tree(t, step.src, step.path, store=step.store, rules=rules)
    changed = bool(names)
    files, folders, _ = transfer.local_tree(step.src, links=step.links, skip=skip)
    for owned, paths in ((step.owned, files), (replace(step.owned, mode=step.directory_mode), [".", *folders])):
        owned = replace(owned, mode="") if owned.mode == "preserve" else owned
        if owned.wished and paths:
            done = run_script(placement.own_all(step.path, owned, paths), t, check=check, diff=False)
            changed = changed or bool(done["changed"])
    return {"changed": changed, "dest": step.path, "files": names}


def _get(step: Get, t: Transport, *, check: bool) -> Outcome:
    dest = step.dest / step.name if step.name and step.dest.is_dir() else step.dest
    # One command says what is there and brings it, unless it must not come.
    there = Brought(_kind(t, step.path)) if check or dest.is_dir() else fetch(t, step.path, dest, step.sha256)
    if there.kind == "pipe":
        raise PodFailed(f"{t.name}: {step.path} is a pipe, not a file")
    if there.kind == "folder":
        return _get_tree(replace(step, dest=step.dest / step.name), t, check=check)
    if there.kind == "absent" and not step.needed:
        return {"changed": False, "msg": f"{step.path} is not there", "file": step.path}
    if dest.is_dir():
        raise UserError(f"'fetch': {dest} is a folder here: end 'dest' with a / to have the file in it")
    if there.kind == "absent" and check:
        return {"changed": False, "skipped": True, "msg": f"{step.path} is not there (yet)"}
    if there.kind == "absent":
        raise PodFailed(f"{t.name}: {step.path} cannot be read: there is no file {step.path}")
    if check:
        done = t.exec(with_values('sha256sum <"$path"', path=step.path))
        if done.rc:
            raise PodFailed(f"{t.name}: {step.path} cannot be read: {done.error_text}")
        return {"changed": _local_sha256(dest) != done.text.split()[0], "dest": str(dest)}
    return {"changed": there.kind == "file", "dest": str(dest), "sha256": there.sha256}


def _kind(t: Transport, path: str) -> str:
    look = 'for kind in d:folder p:pipe e:file; do [ "-${kind%:*}" "$path" ] && echo "${kind#*:}" && exit; done; echo absent'
    return t.exec(with_values(look, path=path)).text.strip()


def _get_tree(step: Get, t: Transport, *, check: bool) -> Outcome:
    if step.sha256 is not None:
        raise UserError(f"'fetch': sha256 is for one file, and {step.path} is a folder")
    skip = excluding(step.excludes, step.name)
    files = [file for file in transfer.list_tree(t, step.path) if not skip(file.path)]
    stale = [file.path for file in files if _local_sha256(step.dest / file.path) != file.sha256]
    extra = _only_here(step.dest, {file.path for file in files}, skip) if step.delete else []
    if stale and not check:
        transfer.get_tree(t, step.path, step.dest, skip=skip)
    for path in [] if check else extra:
        (step.dest / path).unlink()
    return {"changed": bool(stale or extra), "dest": str(step.dest), "files": [*stale, *(f"{path} (removed)" for path in extra)]}


def _only_here(folder: Path, names: set[str], skip: Callable[[str], bool]) -> list[str]:
    """Return the files of a local folder that have none of these names."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    here = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in here if name not in names and not skip(name))


def _local_sha256(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None
