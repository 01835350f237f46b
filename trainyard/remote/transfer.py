"""Files to and from a pod: atomic, compared by content, proven by sha256, resumed after a lost link.

Big files go up as slices over several channels (upload.py); downloads use the wide window of our connections
instead, and small ones share a stream (stream.py). Nothing takes its place before it has arrived whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainyard.errors import PodFailed, UserError, disk_full
from trainyard.files import sha256_of, write_atomic
from trainyard.remote.download import fetch
from trainyard.remote.protocol import CommandResult, Transport, expect, with_values
from trainyard.remote.stream import StreamedFile, get_stream, streams
from trainyard.remote.upload import CHANNELS, ByteCounter, OnProgress, Upload, beside, folder_of, octal
from trainyard.shellscript import load

SMALL = 1024 * 1024
"""Up to here a file is always sent and the far side compares: one round trip instead of two."""


@dataclass(frozen=True, slots=True)
class PodFile:
    """One file of a folder on the pod."""

    path: str
    sha256: str
    size: int | None


def put_bytes(t: Transport, path: str, data: bytes, mode: int = 0o644, *, keep_mode: bool = False) -> bool:
    """Make the remote file have this content and mode; return whether it changed. The folders above are made.

    With ``keep_mode`` a file that is there keeps the mode it has.
    """
    return was_put(t.name, path, t.exec(putting(path, data, mode, keep_mode=keep_mode), data))


def putting(path: str, data: bytes, mode: int, *, keep_mode: bool) -> str:
    """Return the command that puts its stdin there; see put_bytes."""
    part = beside(path, f"part-{os.urandom(6).hex()}")
    values = {"path": path, "folder": folder_of(path), "part": part, "size": len(data), "mode": octal(mode), "keep": int(keep_mode)}
    return with_values(load(__package__, "put_small"), **values)


def was_put(name: str, path: str, done: CommandResult) -> bool:
    """Return whether the file changed; raises PodFailed when it could not be written."""
    return expect(done, f"{name}: {path} cannot be written").stdout.strip() == b"changed"


def put_file(
    t: Transport, local: Path, remote: str, *,
    mode: int | None = None, keep_mode: bool = False, sha256: str | None = None, on_progress: OnProgress | None = None,
) -> bool:  # fmt: skip
    """Make the remote file a copy of the local one; return whether it changed.

    ``sha256`` (when known) saves reading the file once more. A second call after a lost link sends only the
    slices that are missing. Raises PodFailed when what arrived is not what was sent.
    """
    try:
        status = local.stat()
        mode = mode if mode is not None else mode_of(status)
        size = status.st_size
        if size <= SMALL:
            data = local.read_bytes()
            if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
                raise PodFailed(f"{local} is not the file it was: its sha256 is not {sha256}")
            changed = put_bytes(t, remote, data, mode, keep_mode=keep_mode)
        else:
            changed = Upload(t, local, remote, size, mode, sha256 or sha256_of(local), on_progress, keep_mode=keep_mode).run()
    except OSError as error:
        raise UserError(f"{local}: cannot be read: {error.strerror or error}") from None
    if on_progress:
        on_progress(size, size)
    return changed


def send_file(t: Transport, local: Path, remote: str, *, sha256: str) -> str:
    """Send a large file that is needed; return the command that proves it and gives it its name, which nobody else may read.

    See put_file(). Raises OSError when the local file cannot be read.
    """
    return Upload(t, local, remote, local.stat().st_size, 0o600, sha256, None, keep_mode=False).send()


def get_file(t: Transport, remote: str, local: Path, expect_sha256: str | None = None, on_progress: OnProgress | None = None) -> str:
    """Fetch a remote file, verified; return its sha256. See fetch(). Raises PodFailed when there is no such file."""
    got = fetch(t, remote, local, expect_sha256, on_progress)
    if not got.sha256:
        raise PodFailed(f"{t.name}: {remote} cannot be read: there is no file {remote}")
    return got.sha256


def list_tree(t: Transport, remote_dir: str) -> list[PodFile]:
    """Return the files of a remote folder with hash and size, sorted by path."""
    answer = expect(t.exec(with_values(load(__package__, "tree_facts"), folder=remote_dir)), f"{t.name}: {remote_dir} cannot be read")
    sums, _, sizes = answer.stdout.decode(errors="surrogateescape").rpartition("\n\n")
    lines = [line for line in sums.split("\n") if line]
    sizes_there = [int(size) for size in sizes.split() if size.isdigit()]
    known: list[int] | list[None] = sizes_there if len(sizes_there) == len(lines) else [None] * len(lines)
    files = []
    for line, size in zip(lines, known, strict=True):
        escaped, (digest, _, name) = line.startswith("\\"), line.removeprefix("\\").partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise PodFailed(f"{t.name}: the list of files in {remote_dir} is not to be understood: {line[:200]!r}")
        files.append(PodFile(_safe(_unescaped(name) if escaped else name), digest, size))
    return sorted(files, key=lambda file: file.path)


def nothing(path: str) -> bool:
    """Leave nothing out."""
    return False


def get_tree(
    t: Transport, remote_dir: str, local_dir: Path, *, skip: Callable[[str], bool] = nothing, on_progress: OnProgress | None = None
) -> list[str]:
    """Fetch every file of a remote folder but those that are to be skipped, verified; return their relative paths."""
    files = [file for file in list_tree(t, remote_dir) if not skip(file.path)]
    local_dir.mkdir(parents=True, exist_ok=True)
    tally = ByteCounter(sum(file.size or 0 for file in files), on_progress)

    def get(file: PodFile) -> None:
        get_file(t, str(PurePosixPath(remote_dir) / file.path), local_dir / file.path, file.sha256, tally.part())

    def take(file: StreamedFile, content: bytes) -> None:
        path = local_dir / files[file.number].path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content, durable=False)
        except OSError as error:
            raise disk_full(error, path) or UserError(f"{path}: cannot be written: {error.strerror or error}") from None
        tally.add(file.size)

    absent = {number for number, file in enumerate(files) if not _is_here(local_dir / file.path, file)}
    small = [
        StreamedFile(str(PurePosixPath(remote_dir) / file.path), file.size, file.sha256, number)
        for number, file in enumerate(files)
        if number in absent and file.size is not None and file.size <= SMALL
    ]
    with ThreadPoolExecutor(CHANNELS) as pool:
        wrong = [file.number for some in pool.map(lambda some: get_stream(t, some, take), streams(small)) for file in some]
        alone = absent.difference(file.number for file in small).union(wrong)
        list(pool.map(get, [files[number] for number in sorted(alone)]))
    return [file.path for file in files]


def local_tree(folder: Path, *, links: bool = False, skip: Callable[[str], bool] = nothing) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the files and the folders below a local folder, relative, sorted; links count as what they lead to.

    With ``links`` they are apart: names, and what each leads to. What is to be skipped is as if it were not there.
    """
    files: list[str] = []
    folders: list[str] = []
    kept: dict[str, str] = {}
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    for top, below, names in os.walk(folder, followlinks=not links):
        real = os.path.realpath(top)
        inside = PurePosixPath(Path(top).relative_to(folder).as_posix())
        below[:] = [name for name in below if not skip(str(inside / name))]
        names = [name for name in names if not skip(str(inside / name))]
        for name in [name for name in (*below, *names) if links and os.path.islink(os.path.join(top, name))]:
            kept[str(inside / name)] = os.readlink(os.path.join(top, name))
        below[:] = [name for name in below if not _leads_back(real, os.path.realpath(os.path.join(top, name)))]
        folders += [str(inside / name) for name in below if str(inside / name) not in kept]
        files += [str(inside / name) for name in names if str(inside / name) not in kept]
    for name in (*files, *folders):
        if not (folder / name).exists():
            raise UserError(f"{folder / name} is a link to nothing")
    for name in files:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is neither a file nor a folder (a pipe or a device?)")
    return sorted(files), sorted(folders), kept


def mode_of(status: os.stat_result) -> int:
    """Return the mode a copy gets: 0755 for what its owner may run, 0644 else."""
    return 0o755 if status.st_mode & stat.S_IXUSR else 0o644


def _is_here(path: Path, file: PodFile) -> bool:
    """Tell whether a file of the pod lies here already; what cannot be read is found out when it is written."""
    try:
        return path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256
    except OSError:
        return False


def _leads_back(real: str, target: str) -> bool:
    """Tell whether a link points to the folder it lies in, or above."""
    return real == target or real.startswith(target.rstrip(os.sep) + os.sep)


def _unescaped(name: str) -> str:
    """Return a name that sha256sum wrote with escapes, because it has a backslash or a line break."""
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), name)


def _safe(name: str) -> str:
    """Return a listed path without its ``./``; a rented machine must not choose where on this one we write."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise PodFailed(f"the pod lists a file name that is not taken: {name!r}")
    return str(path)
