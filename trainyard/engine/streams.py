"""What program, children and libraries print: passed on line by line, without the secrets that are known by then.

Descriptors 1 and 2 become pipes while an operation runs; the engine keeps the real ones for itself.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TextIO

_DRAIN_SECONDS = 1.0  # a child that the program left behind may hold a pipe open for ever

OnLine = Callable[[str], None]


class Streams:
    """Stands between the program and the real stdout and stderr."""

    def __init__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._real = (os.dup(1), os.dup(2))
        self.out: TextIO = os.fdopen(os.dup(self._real[0]), "w", encoding="utf-8", errors="backslashreplace")
        self.err: TextIO = os.fdopen(os.dup(self._real[1]), "w", encoding="utf-8", errors="backslashreplace")
        self._readers: list[threading.Thread] = []
        self._taken = False

    def take(self, on_out: OnLine, on_err: OnLine) -> None:
        """Hand each line that is printed from now on to these."""
        self._taken = True
        for descriptor, on_line in ((1, on_out), (2, on_err)):
            read_end, write_end = os.pipe()
            os.dup2(write_end, descriptor)
            os.close(write_end)
            reader = threading.Thread(target=_pass_on, args=(read_end, on_line), daemon=True)
            reader.start()
            self._readers.append(reader)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)

    def give_back(self) -> None:
        """Pass on what is still under way, and print to the real ones again."""
        if not self._taken:
            return
        self._taken = False
        for stream in (sys.stdout, sys.stderr, self.out, self.err):
            stream.flush()
        for descriptor, real in zip((1, 2), self._real, strict=True):
            os.dup2(real, descriptor)
        for reader in self._readers:
            reader.join(_DRAIN_SECONDS)
        self.out.flush()
        self.err.flush()


def _pass_on(read_end: int, on_line: OnLine) -> None:
    with os.fdopen(read_end, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            on_line(line.rstrip("\n"))
