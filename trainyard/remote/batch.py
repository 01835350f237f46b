"""Several commands in one round trip: run one after the other, each with an answer of its own, up to the first that fails.

A command sees what it would see alone: a shell of its own, its own input, its own exit code. Its answer lies between marks with a
nonce of its own and is handed out when its end is there; one without both marks is none.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainyard.remote.frame import LONGEST, Marked, packed, sign
from trainyard.remote.kept import KeptOutput
from trainyard.remote.protocol import CommandResult, Transport, quote, with_values
from trainyard.shellscript import load

OnAnswer = Callable[[CommandResult], None]
"""Called with the answers in turn, from the thread that runs the batch."""
MOST_INPUT = 1 << 20
"""Bytes that a batch may have, its programs and their input: all of it lies in memory."""


@dataclass(frozen=True, slots=True)
class BatchCommand:
    """A command with its input."""

    command: str
    stdin: bytes = b""


class Batch:
    """Commands that go together; ``add`` takes them as long as there is room."""

    def __init__(self) -> None:
        self._halves = secrets.token_hex(12), secrets.token_hex(12)
        self._programs: list[bytes] = []
        self._inputs: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._programs)

    def add(self, request: BatchCommand) -> bool:
        """Take one more command; return whether there was room for it, and it can be sent at all."""
        line = f"p {len(self)} {len(request.stdin)} {quote(request.command)}\n".encode(errors="surrogateescape")
        size = self._size + len(line) + len(request.stdin)
        if size > MOST_INPUT or len(packed(request.command)) > LONGEST:
            return False
        self._size = size
        self._programs.append(line)
        self._inputs.append(request.stdin)
        return True

    def run(self, t: Transport, on_answer: OnAnswer) -> None:
        """Run them. Raises what ``exec`` does; then what has no answer may have run, with all behind it, or not."""
        a, b = self._halves
        answers = _Answers([f"{a}{b}{number}" for number in range(len(self))], on_answer)
        programs = b"".join(self._programs) + b": " + a.encode()
        command = with_values(load(__package__, "batch"), a=a, b=b, bytes=len(programs))
        t.exec(command, b"".join([programs, *self._inputs]), on_stdout=answers.out, on_stderr=answers.err)
        answers.finish()


class _Answers:
    """Cut the streams of a batch into answers."""

    def __init__(self, marks: Sequence[str], on_answer: OnAnswer) -> None:
        self._on_answer, self._told = on_answer, 0
        self._kept = [(KeptOutput(), KeptOutput()) for _ in marks]
        self._out, self._err = (
            [Marked(sign(mark.encode()), kind, kept[side].take) for mark, kept in zip(marks, self._kept, strict=True)]
            for side, kind in enumerate(("out", "err"))
        )

    def out(self, data: bytes) -> None:
        """Take bytes of stdout."""
        self._take(self._out, data)

    def err(self, data: bytes) -> None:
        """Take bytes of stderr."""
        self._take(self._err, data)

    def finish(self) -> None:
        """Hand out what is known when both streams have ended: a target that joins them has no end of stderr."""
        while self._told < len(self._out) and self._out[self._told].code is not None:
            self._tell()

    def _take(self, streams: Sequence[Marked], data: bytes) -> None:
        for stream in streams:
            if stream.code is None:
                stream.feed(data)
                if stream.code is None:
                    break
                data = stream.held
        while self._told < len(self._out) and self._out[self._told].code is not None and self._err[self._told].code is not None:
            self._tell()

    def _tell(self) -> None:
        code, (out, err) = self._out[self._told].code, self._kept[self._told]
        assert code is not None
        self._told += 1
        self._on_answer(CommandResult(code, out.bytes(), err.bytes(), out.lost + err.lost))
