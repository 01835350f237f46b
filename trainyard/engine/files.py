"""Files of the engine, written whole, and the time as it stands in them. The engine has its own: it serves without the rest."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path


def now() -> str:
    """Return the time as the CLI writes it (UTC, RFC 3339)."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def write_atomic(path: Path, data: bytes, *, replace: bool = True, durable: bool = True) -> bool:
    """Write a file so that a crash leaves the old or the new content; False when it exists and may not be replaced.

    Durable: content and name are on the disk when this returns.
    """
    # one name while the stack is locked: what a crash leaves is overwritten by the next write
    temporary = path.with_name(f".{path.name}.tmp" if replace else f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)
    return True


def keep_backup(path: Path) -> None:
    """Keep the present file as ``.bak`` by a hard link: no byte is copied, and it is never half written."""
    temporary = path.with_name(f".{path.name}.bak")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except FileNotFoundError:
        return
    except OSError:  # a file system without hard links
        temporary.write_bytes(path.read_bytes())
    os.replace(temporary, path.with_name(path.name + ".bak"))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
