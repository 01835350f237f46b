"""Small files of a pod in one stream: a round trip or two for each would take more time than its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from trainyard.batches import batches
from trainyard.remote.protocol import Transport, ended_by_nul, with_values
from trainyard.shellscript import load

FILES, BYTES = 2000, 16 << 20
"""Of one stream. What of it has arrived when the link is lost is kept, so it need not be small."""
AGAIN = 3


@dataclass(frozen=True, slots=True)
class StreamedFile:
    """One file as it must arrive; ``number`` is the caller's."""

    source: str
    size: int
    sha256: str
    number: int


def streams(files: Iterable[StreamedFile]) -> Iterator[list[StreamedFile]]:
    """Cut small files into what goes in a stream each."""
    return batches(files, FILES, BYTES)


def get_stream(t: Transport, files: Sequence[StreamedFile], take: Callable[[StreamedFile, bytes], None]) -> list[StreamedFile]:
    """Hand each file with the bytes that were announced to ``take`` as it arrives; return the others.

    The stream has no marks: a file that is not there, or has another size, shifts what follows. That is asked for again; where
    it goes on like that all of the rest is returned, to be asked for one by one: then each says what is wrong with it.
    Raises Unreachable when the link is lost.
    """
    ask, wrong = with_values(load(__package__, "stream")), list[StreamedFile]()
    for _ in range(AGAIN):
        cutter = _Cutter(files, take)
        cutter.feed(b"")
        t.exec(ask, ended_by_nul(file.source for file in files), on_stdout=cutter.feed)
        others = [*cutter.wrong, *reversed(cutter.rest)]
        wrong, files = wrong + others[:1], others[1:]
        if not files:
            return wrong
    return [*wrong, *files]


class _Cutter:
    """Cut a stream into its files by their sizes."""

    def __init__(self, files: Sequence[StreamedFile], take: Callable[[StreamedFile, bytes], None]) -> None:
        self.rest, self.wrong = list(reversed(files)), list[StreamedFile]()
        self._take, self._held = take, bytearray()

    def feed(self, data: bytes) -> None:
        self._held += data
        at = 0
        while self.rest and len(self._held) - at >= self.rest[-1].size:
            file = self.rest.pop()
            content = bytes(self._held[at : at + file.size])
            at += file.size
            if hashlib.sha256(content).hexdigest() == file.sha256:
                self._take(file, content)
            else:
                self.wrong.append(file)
        del self._held[:at]
