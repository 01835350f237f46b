"""Files of this machine, written whole: whatever ends the writer, a reader finds the old content or the new one.

Durable has one meaning: content and name are on the disk when the call returns, so that a power cut takes neither.
Standard library only: set-up uses it before any package is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def write_atomic(path: Path, content: str | bytes, *, durable: bool, mode: int = 0o666, draft: Path | None = None) -> None:
    """Give a file a new content in one step; a text is written as UTF-8.

    ``mode`` is what the new file may be at most (the umask counts). ``draft`` is where it is written first, on the
    same disk: by default beside it, under a hidden name. Raises OSError, then the old content is still there.
    """
    draft_path = _write_draft(path, content, durable, mode, draft)
    try:
        os.replace(draft_path, path)
    except BaseException:
        draft_path.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_new(path: Path, content: str | bytes, *, durable: bool, mode: int = 0o666) -> bool:
    """Make a file, whole at once; False, with nothing changed, when it is there already. See write_atomic()."""
    draft_path = _write_draft(path, content, durable, mode, None)
    try:
        os.link(draft_path, path)
    except FileExistsError:
        return False
    finally:
        draft_path.unlink(missing_ok=True)
    if durable:
        sync(path.parent)
    return True


def sync(path: Path) -> None:
    """Bring a file's content, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Bring everything that was written to the file system of a folder to the disk, whoever wrote it."""
    import ctypes  # a millisecond that most commands need not pay

    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if call is None:
            os.sync()
        elif call(handle) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(handle)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError that knows no file (a write's does not) the one that was written."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Return a hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _write_draft(path: Path, content: str | bytes, durable: bool, mode: int, draft: Path | None) -> Path:
    # By chance, not by process: two threads may write the same file.
    draft_path = draft or path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    if draft:
        draft.unlink(missing_ok=True)
    handle = os.open(draft_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except BaseException:
        draft_path.unlink(missing_ok=True)
        raise
    return draft_path


def is_gone(path: Path) -> bool:
    """Tell whether a file is not there; one that cannot be asked for may be."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
