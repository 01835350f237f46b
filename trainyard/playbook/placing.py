"""Put and fetch files for tasks: what changes, what would change, and the difference as people read it."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from pathlib import Path

from trainyard.errors import PodFailed, UserError
from trainyard.files import sha256_of
from trainyard.playbook.steps import Edit, Get, Outcome, PutFile, PutText, PutTree
from trainyard.remote import transfer, tree
from trainyard.remote.batch import BatchCommand
from trainyard.remote.protocol import CommandResult, Transport, with_values
from trainyard.shellscript import load

_DIFF_LIMIT = 256 * 1024
_EDIT_LIMIT = 16 * 1024 * 1024
"""Bytes of a file whose lines are changed here."""


def place(step: PutText | PutFile | PutTree | Get | Edit, t: Transport, *, check: bool, diff: bool) -> Outcome:
    """Carry out one of the steps that move files; with ``check`` only say what would change."""
    match step:
        case PutText():
            return _put(step, t, check=check, diff=diff)
        case PutFile():
            return _put_file(step, t, check=check, diff=diff)
        case PutTree():
            return _put_tree(step, t, check=check)
        case Get():
            return _get(step, t, check=check)
        case Edit():
            return _edit(step, t, check=check, diff=diff)


def putting(step: PutText | PutFile, name: str) -> tuple[BatchCommand, Callable[[CommandResult], Outcome]] | None:
    """Return the command that puts a text or a small file in its place and what reads its answer; None for what needs more."""
    mode = 0o644
    try:
        if isinstance(step, PutText):
            data = step.data
        elif (status := step.src.stat()).st_size <= transfer.SMALL:
            data, mode = step.src.read_bytes(), transfer.mode_of(status)
        else:
            return None
    except OSError:
        return None  # said in words when it is carried out
    digest = hashlib.sha256(data).hexdigest()
    if isinstance(step, PutFile) and step.sha256 not in (None, digest):
        return None
    command = transfer.putting(step.path, data, mode if step.mode is None else step.mode, keep_mode=step.mode is None)
    return BatchCommand(command, data), lambda done: {
        "changed": transfer.was_put(name, step.path, done), "dest": step.path, "sha256": digest,
    }  # fmt: skip


def _put(step: PutText, t: Transport, *, check: bool, diff: bool) -> Outcome:
    shown = _difference(t, step.path, step.data) if diff else {}
    digest = hashlib.sha256(step.data).hexdigest()
    mode, keep = step.mode if step.mode is not None else 0o644, step.mode is None
    if check:
        changed = _differs(t, step.path, digest, mode, keep_mode=keep)
    else:
        changed = transfer.put_bytes(t, step.path, step.data, mode, keep_mode=keep)
    return {"changed": changed, "dest": step.path, "sha256": digest, **(shown if changed else {})}


def _edit(step: Edit, t: Transport, *, check: bool, diff: bool) -> Outcome:
    """Read the file, compute what shall be there, and put it: the expressions are Python's, the host has only sh."""
    done = t.exec(with_values(load(__package__, "text"), path=step.path, limit=_EDIT_LIMIT))
    if done.rc:
        raise PodFailed(done.error_text or f"exit code {done.rc}")
    there = done.stdout.startswith(b"+")
    edited = step.change(done.stdout[1:] if there else None)
    if edited.data is None:
        return {"changed": False, **edited.result}
    outcome = _put(PutText(step.path, edited.data, step.mode), t, check=check, diff=diff)
    return {**outcome, **edited.result}


def _put_file(step: PutFile, t: Transport, *, check: bool, diff: bool) -> Outcome:
    try:
        mode = transfer.mode_of(step.src.stat()) if step.mode is None else step.mode
        digest = sha256_of(step.src)
        small = step.src.read_bytes() if diff and step.src.stat().st_size <= _DIFF_LIMIT else None
    except OSError as error:
        raise UserError(f"{step.src}: cannot be read: {error.strerror}") from None
    if step.sha256 is not None and step.sha256 != digest:
        raise PodFailed(f"{step.src} is not the file that was promised: its sha256 is {digest}, not {step.sha256}")
    shown = _difference(t, step.path, small) if small is not None else {}
    keep = step.mode is None
    if check:
        changed = _differs(t, step.path, digest, mode, keep_mode=keep)
    else:
        changed = transfer.put_file(t, step.src, step.path, mode=mode, keep_mode=keep, sha256=digest)
    return {"changed": changed, "dest": step.path, "sha256": digest, **(shown if changed else {})}


def _put_tree(step: PutTree, t: Transport, *, check: bool) -> Outcome:
    files = tree.differing(t, step.src, step.path) if check else tree.put_tree(t, step.src, step.path, store=step.store)
    return {"changed": bool(files), "dest": step.path, "files": files}


def _get(step: Get, t: Transport, *, check: bool) -> Outcome:
    kind = t.exec(with_values('[ -d "$path" ] && echo folder; [ -e "$path" ] || echo absent', path=step.path)).stdout.split()
    if kind == [b"folder"]:
        return _get_tree(step, t, check=check)
    if check and kind == [b"absent"]:
        return {"changed": False, "skipped": True, "msg": f"{step.path} is not there (yet)"}
    if check:
        done = t.exec(with_values('sha256sum <"$path"', path=step.path))
        if done.rc:
            raise PodFailed(f"{t.name}: {step.path} cannot be read: {done.error_text}")
        return {"changed": _local_sha256(step.dest) != done.text.split()[0], "dest": str(step.dest)}
    before = _local_sha256(step.dest)
    digest = transfer.get_file(t, step.path, step.dest, step.sha256)
    return {"changed": before != digest, "dest": str(step.dest), "sha256": digest}


def _get_tree(step: Get, t: Transport, *, check: bool) -> Outcome:
    if step.sha256 is not None:
        raise UserError(f"'fetch': sha256 is for one file, and {step.path} is a folder")
    files = transfer.list_tree(t, step.path)
    stale = [file.path for file in files if _local_sha256(step.dest / file.path) != file.sha256]
    if stale and not check:
        transfer.get_tree(t, step.path, step.dest)
    return {"changed": bool(stale), "dest": str(step.dest), "files": stale}


def _differs(t: Transport, path: str, sha256: str, mode: int, *, keep_mode: bool = False) -> bool:
    program = load("trainyard.remote", "keep_mode") + load(__package__, "same")
    done = t.exec(with_values(program, path=path, sha256=sha256, mode=f"{mode:04o}", keep=int(keep_mode)))
    if done.rc:
        raise PodFailed(f"{t.name}: {done.error_text}")
    return done.stdout.strip() != b"same"


def _difference(t: Transport, path: str, data: bytes) -> Outcome:
    """Return the unified difference between what is there and what will be, when both are short texts."""
    done = t.exec(with_values('[ ! -e "$path" ] || head -c "$limit" "$path"', path=path, limit=_DIFF_LIMIT))
    old, new = done.stdout, data
    if done.rc or max(len(old), len(new)) >= _DIFF_LIMIT or b"\0" in old + new:
        return {"diff": f"{path}: the difference is not shown (binary or large)\n"}
    lines = difflib.unified_diff(
        old.decode(errors="backslashreplace").splitlines(keepends=True),
        new.decode(errors="backslashreplace").splitlines(keepends=True), f"{path} (now)", f"{path} (then)",
    )  # fmt: skip
    return {"diff": "".join(line if line.endswith("\n") else line + "\n" for line in lines)}


def _local_sha256(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None
