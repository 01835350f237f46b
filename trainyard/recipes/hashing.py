"""The sha256 of a stream that somebody reads anyway."""

from __future__ import annotations

import hashlib
import io
from typing import Any, BinaryIO


class HashingStream(io.RawIOBase):
    """A stream that takes the sha256 of what is read through it, once and in order."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self.digest.update(data)
        self.count += len(data)
        return len(data)
