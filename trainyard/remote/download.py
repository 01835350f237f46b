"""One file on its way home in one command: what it is, its bytes as far as they are missing, its sha256, made while they are sent.

What is here of a file that was cut off lies beside it under a name that tells the version: the other side goes on there, or begins anew.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trainyard.errors import PodFailed, UserError, disk_full
from trainyard.files import sha256_of
from trainyard.remote.protocol import Transport, expect, with_values
from trainyard.remote.upload import OnProgress
from trainyard.shellscript import load

_BLOCK = 64 * 1024
_READ = 1024 * 1024
_LINE = 256
_FIRST = re.compile(r"(file|same) (\d{1,18}) ([0-9a-f.]{1,64}) (\d{1,14})|(folder|pipe|absent)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Brought:
    """What is at a path of the other side: "file" that came, "same" that was here already, "folder", "pipe" or "absent"."""

    kind: str
    sha256: str = ""


def fetch(t: Transport, remote: str, local: Path, known: str | None = None, on_progress: OnProgress | None = None) -> Brought:
    """Bring a file home, verified, when it is one and another than is here. After a lost link a second call brings only the rest.

    ``known`` is the sha256 that it must have. Raises PodFailed when it cannot be read or its bytes are not those announced.
    """
    arriving = _Arriving(local, on_progress)
    try:
        size, mine = (local.stat().st_size, sha256_of(local)) if local.is_file() else (-1, "")
        version, have = arriving.begun()
        text = with_values(
            load(__package__, "fetch"), path=remote, known=(known or "")[:16], version=version, have=have, blocksize=_BLOCK,
            size=size, mine=mine,
        )  # fmt: skip
        try:
            expect(t.exec(text, on_stdout=arriving.take), f"{t.name}: {remote} cannot be read")
        finally:
            arriving.close()
        expected = known or arriving.answered
        if arriving.kind in ("file", "same") and not arriving.settle(expected):
            raise PodFailed(
                f"{t.name}: {remote} has the sha256 {arriving.sha256}, not {expected}: it changed while it was fetched, or was damaged"
            )
    except OSError as error:
        raise disk_full(error, local) or UserError(f"{local}: cannot be written: {error.strerror or error}") from None
    return Brought(arriving.kind, arriving.sha256)


class _Arriving:
    """Take what fetch.sh says: a first line, the bytes of a file, its hash."""

    def __init__(self, local: Path, on_progress: OnProgress | None) -> None:
        self._local, self._on_progress = local, on_progress
        self._prefix = f".{local.name}.part-"
        self._around = bytearray()
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._part = local
        self._size = self._left = 0
        self.kind = ""

    @property
    def answered(self) -> str:
        """Return the hash that the other side has made."""
        return self._around.decode(errors="replace").strip()

    @property
    def sha256(self) -> str:
        """Return the hash of what is here."""
        return self._digest.hexdigest() if self.kind == "file" else self.answered

    def begun(self) -> tuple[str, int]:
        """Return the version of the newest part that is here, and its whole blocks."""
        parts = [(entry.stat().st_mtime_ns, entry) for entry in self._beside()]
        if not parts:
            return "", 0
        _, newest = max(parts, key=lambda part: part[0])
        return newest.name.removeprefix(self._prefix), newest.stat().st_size // _BLOCK

    def take(self, data: bytes) -> None:
        """Take bytes as they come."""
        if not self.kind:
            self._around += data
            line, end, rest = self._around.partition(b"\n")
            if not end and len(line) < _LINE:
                return
            self._begin(line.decode(errors="replace"))
            data, self._around = bytes(rest), bytearray()
        if self._left and self._file:
            piece = data if len(data) <= self._left else data[: self._left]
            self._file.write(piece)
            self._digest.update(piece)
            self._left -= len(piece)
            data = data[len(piece) :]
            if self._on_progress:
                self._on_progress(self._size - self._left, self._size)
        self._around += data[: _LINE - len(self._around)]

    def close(self) -> None:
        """Bring what has come to the disk."""
        if self._file:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())

    def settle(self, expected: str) -> bool:
        """Give the file its place if its hash is the one expected, else remove what came."""
        right = not self._left and self.sha256 == expected
        if self.kind == "file":
            if right:
                self._part.replace(self._local)
            else:
                self._part.unlink()
        return right

    def _beside(self) -> list[Path]:
        folder = self._local.parent
        return [path for path in folder.iterdir() if path.name.startswith(self._prefix)] if folder.is_dir() else []

    def _begin(self, line: str) -> None:
        first = _FIRST.fullmatch(line)
        if not first:
            raise PodFailed(f"what was answered about the file is not to be understood: {line[:_LINE]!r}")
        self.kind = first[1] or first[5]
        if self.kind != "file":
            return
        self._size, have = int(first[2]), int(first[4]) * _BLOCK
        self._local.parent.mkdir(parents=True, exist_ok=True)
        self._part = self._local.with_name(self._prefix + first[3])
        self._file = self._part.open("a+b")
        self._file.truncate(min(have, self._size))
        self._file.seek(0)
        while data := self._file.read(_READ):
            self._digest.update(data)
        self._left = self._size - self._file.tell()
