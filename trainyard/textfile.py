"""Read a text file that a person wrote: UTF-8, or a sentence that says where and why it is none."""

from __future__ import annotations

import codecs
import os
import select
from pathlib import Path

from trainyard.errors import Location, UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, name: str | None = None, *, patience: float | None = None) -> str:
    """Return the text without a byte order mark; ``patience``: seconds for whoever writes it, where it is a pipe.

    Raises FileNotFoundError; UserError for a file that cannot be read or is no UTF-8 text.
    """
    shown = name or str(path)
    try:
        data = path.read_bytes() if patience is None or not path.is_fifo() else _from_pipe(path, shown, patience)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{shown}: cannot be read: {error.strerror}") from None
    if data.startswith(_UTF16):
        raise UserError(f"{shown}: is UTF-16, not UTF-8", hint="Save it as UTF-8 (PowerShell: Out-File -Encoding utf8).")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("this is no UTF-8 text", where=_place(shown, data, error.start), hint="Save the file as UTF-8.") from None
    if "\0" in text:
        where = _place(shown, data, data.index(b"\0"))
        raise UserError("a NUL byte: this is no text", where=where, hint="Save the file as UTF-8 text.")
    return text


def _from_pipe(path: Path, shown: str, patience: float) -> bytes:
    """Return what comes out of a named pipe; raises UserError where nothing comes for so long (a plain open would wait for ever)."""
    pieces, pipe = list[bytes](), os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        while poller.poll(1000 * patience):
            piece = os.read(pipe, 65536)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
    finally:
        os.close(pipe)
    hint = "Start what writes it, or put a file in its place."
    raise UserError(f"{shown}: is a pipe into which nobody has written for {patience:g} s", hint=hint)


def expanded(path: str | Path) -> Path:
    """Return a path with its ``~`` or ``~name`` replaced; raises UserError for a person whom this machine does not know."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: whose home folder that is is not known") from None


def _place(name: str, data: bytes, offset: int) -> Location:
    before = data[:offset]
    return Location(name, before.count(b"\n") + 1, offset - (before.rfind(b"\n") + 1) + 1)
