"""A file or folder that one process at a time holds: the kernel drops the lock with the process, however that ends.

flock(2), so the lock belongs to the opened file: a child that inherits the descriptor holds it too. Standard library
only: set-up uses it before any package is there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[int]:
    """Hold the lock while the block lasts; yields the descriptor. Makes the folder. Not reentrant. See acquire()."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(acquire(path, on_wait)) as handle:
        yield handle


def acquire(
    path: Path,
    on_wait: Callable[[], object] | None = None,
    *,
    create: bool = True,
    shared: bool = False,
    pause: Callable[[], object] | None = None,
) -> int:
    """Lock the file of that name and return its descriptor; ``on_wait`` is called once when another process has it.

    ``shared``: beside others who hold it so. With ``pause`` the lock is asked for again and again with that in
    between, and what it raises ends the waiting. Raises FileNotFoundError for a file that may not be made (or whose
    folder is gone), OSError where the file system has no locks.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    handle = _lock_now(path, how, create)
    if handle is None and on_wait is not None:
        on_wait()
    while handle is None:
        if pause is None:
            return _lock(path, how, create)
        pause()
        handle = _lock_now(path, how, create)
    return handle


def acquire_now(path: Path, *, create: bool = True) -> int | None:
    """Lock the file and return its descriptor, None when another process has it; see acquire()."""
    return _lock_now(path, fcntl.LOCK_EX, create)


@contextmanager
def closing(handle: int) -> Iterator[int]:
    """Close a descriptor at the end, and with it its lock."""
    try:
        yield handle
    finally:
        os.close(handle)


def release(handle: int) -> None:
    """Give the lock back, also when a child that was forked a moment ago still has the descriptor."""
    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


def _lock_now(path: Path, how: int, create: bool) -> int | None:
    try:
        return _lock(path, how | fcntl.LOCK_NB, create)
    except BlockingIOError:
        return None


def _lock(path: Path, how: int, create: bool) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        except IsADirectoryError:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, how)
            if _is_named(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_named(handle: int, path: Path) -> bool:
    """A lock on a file that was removed meanwhile protects nothing."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
