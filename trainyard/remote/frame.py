"""The frame around every answer: proof that the target ran the command, which bytes are its own, and how it ended.

A target may print before, after or instead (a message of the day, a start-up file, a forced command, a login
shell that is none). So sh writes a mark with a nonce on both streams before the command, and one with the
command's exit code behind it; only what lies between is the answer, and without both marks there is none.
The two halves of the nonce stand apart in the command line: what prints it (ps, set -x) makes no mark.
"""

from __future__ import annotations

import functools
import re
import secrets

from trainyard.errors import Unreachable, UserError
from trainyard.remote.protocol import CommandResult, OnBytes
from trainyard.shellscript import load

LONGEST = 120_000
"""Bytes a command may have: Linux takes 128 KiB in one argument."""
_NOISE = 1 << 20
"""Bytes that may come before the mark; who prints more will print for ever."""
_SHOWN = 240
_SIGN = b"\x1e"
_BEGIN = {"out": b"o", "err": b"e"}
_END = {"out": b"x", "err": b"y"}

# What a login shell or its server might not pass on as it is; bytes that are no UTF-8 among them.
_ESCAPED = re.compile(rb"[\\'!\n\x80-\xff]")


@functools.cache
def _outer() -> bytes:
    """Return the frame as one line, which any login shell passes on as one word."""
    return " ".join(load(__package__, "frame").splitlines()).encode()


def packed(command: str) -> bytes:
    """Return a command as any login shell passes it on. Raises UserError for one that none can."""
    word = command.encode(errors="surrogateescape")
    if b"\0" in word:
        raise UserError("a command cannot hold a NUL character")
    return _ESCAPED.sub(lambda match: b"\\0%03o" % match[0][0], word)


def sign(nonce: bytes) -> bytes:
    """Return the mark with this nonce in it."""
    return _SIGN + nonce + b"."


class NotRun(Unreachable):
    """Something answered, but not the command that was sent; nothing is known of what it did, if it ran at all.

    ``seen`` is what came instead, without any line that repeats the command.
    """

    def __init__(self, message: str, seen: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message}: {seen}", hint=hint)
        self.plain, self.seen = message, seen


class EndUntold(Unreachable):
    """A command began and its shell ended without telling how; the link is as good as before."""


class Frame:
    """One command on its way to a target and the answer on its way back."""

    def __init__(self, name: str, command: str, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None) -> None:
        self._name = name
        word = packed(command)
        if len(word) > LONGEST:
            raise UserError(f"the command is {len(word)} bytes long, {LONGEST} can be sent: put it into a file and run that")
        self._halves = secrets.token_hex(12).encode(), secrets.token_hex(12).encode()
        self.words: list[bytes] = [b"sh", b"-c", _outer(), b"sh", *self._halves, word]
        """The command as a program with its arguments."""
        first, second = self._halves
        self.line = b"exec sh -c '%s' sh %s %s '%s'" % (_outer(), first, second, word)
        """The command as a line for any login shell."""
        mark = sign(b"".join(self._halves))
        self._chunks: list[bytes] = []
        self._errors: list[bytes] = []
        self._out = Marked(mark, "out", on_stdout or self._chunks.append)
        self._err = Marked(mark, "err", on_stderr or self._errors.append)

    def out(self, data: bytes) -> None:
        """Take bytes of the target's stdout."""
        self._take(self._out, data)

    def err(self, data: bytes) -> None:
        """Take bytes of the target's stderr."""
        self._take(self._err, data)

    @property
    def begun(self) -> bool:
        """Tell whether the target has begun with the command."""
        return self._out.begun

    @property
    def complete(self) -> bool:
        """Tell whether the command's exit code has come."""
        return self._out.code is not None

    @property
    def whole(self) -> bool:
        """Tell whether both streams have come to their ends."""
        return self.complete and self._err.code is not None

    def result(self, status: int | None, *, linked: bool = False) -> CommandResult:
        """Return the answer; ``status`` is what the login shell ended with, None for a lost link, or, if ``linked``, by a signal.

        Raises NotRun when the answer has no frame, Unreachable when it broke off.
        """
        if self._out.code is not None:
            return CommandResult(self._out.code, b"".join(self._chunks), b"".join(self._errors))
        if status is None and not (linked and self.begun):
            raise Unreachable(f"{self._name}: the connection was lost while a command ran")
        if self.begun:
            raise EndUntold(f"{self._name}: the command began, and its end was not told: was its shell killed?")
        raise self._not_run(status)

    def _take(self, stream: Marked, data: bytes) -> None:
        stream.feed(data)
        if not stream.begun and len(stream.held) > _NOISE:
            raise self._not_run(None)

    def silent(self, seconds: float) -> NotRun:
        """Return the error of a target that took the command and did not begin it within so many seconds."""
        return self._not_run(None, f"the target did not begin the command within {seconds:g} s")

    def _not_run(self, status: int | None, what: str = "the target answered without running the command") -> NotRun:
        lines = (self._out.held[:4096] + b"\n" + self._err.held[:4096]).splitlines()
        # A line that repeats the command may hold its secrets.
        kept = [line.decode(errors="backslashreplace").strip() for line in lines if not any(half in line for half in self._halves)]
        seen = " | ".join(filter(None, kept))
        seen = seen[:_SHOWN] + "..." if len(seen) > _SHOWN else seen
        end = "" if status is None else f" (exit code {status})"
        return NotRun(
            f"{self._name}: {what}", (seen or "it said nothing") + end,
            hint="Is its login shell a shell? Does sshd or authorized_keys force a command on this login?",
        )  # fmt: skip


class Marked:
    """One stream with marks in it: what comes before the first is held, what lies between goes to the sink at once.

    When ``code`` has come, ``held`` is what came behind it.
    """

    def __init__(self, mark: bytes, kind: str, sink: OnBytes) -> None:
        self._mark, self._sink = mark, sink
        self._begin, self._end = _BEGIN[kind], _END[kind]
        self.held = b""
        self.begun = False
        self.code: int | None = None

    def feed(self, data: bytes) -> None:
        if self.code is not None:
            return
        self.held = self.held + data if self.held else data
        if not self.begun:
            _, mark, after = self.held.partition(self._mark + self._begin + b"\n")
            if not mark:
                return
            self.begun, self.held = True, after
        while self.code is None and self._step():
            pass

    def _step(self) -> bool:
        """Give on what is certain; return whether there may be more."""
        at = self.held.find(self._mark)
        if at < 0:
            at = self._doubtful()
            self._give(at)
            return False
        body, line_end, after = self.held[at + len(self._mark) :].partition(b"\n")
        if not line_end:
            self._give(at)
            return False
        self._give(at)
        self.held = after
        # A target that joins the streams sends the other's marks here: they are nobody's output.
        if body.startswith(self._end) and body[1:].isdigit():
            self.code = int(body[1:])
        return True

    def _give(self, count: int) -> None:
        if count:
            data, self.held = self.held[:count], self.held[count:]
            self._sink(data)

    def _doubtful(self) -> int:
        """Return where a mark may begin whose rest has not come yet."""
        start = max(0, len(self.held) - len(self._mark) + 1)
        at = self.held.rfind(_SIGN, start)
        return at if at >= 0 and self._mark.startswith(self.held[at:]) else len(self.held)
