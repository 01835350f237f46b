"""What a result is made of, wherever it lies: names, patterns of names, a walk over a folder, hashes of files.

Standard library only, Python 3.8 or newer: it is the first part of what is sent to a pod (podprogram.py). Knows no key of any
store and no name of any run.
"""

from __future__ import annotations

import base64
import concurrent.futures
import errno
import functools
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterator
from typing import IO, Any

# A block stays in the processor's cache while it is read, hashed and sent.
BLOCK = 256 << 10
LONGEST_NAME = 255
# A key has at most 1,024 bytes, and up to 120 of them name the run.
LONGEST_PATH = 900
LINKS_DEEP = 3
_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?[^/]+?\]|[^*?\[]+|\[")


class Changed(Exception):
    """The file is not (any more) what the plan or the scan says."""


# ---- names


def name_problem(path: str) -> str | None:
    """Return why a path can be no file of a result, None when pod, store and home all take it as it is.

    The one rule for all of them: what is taken here can be a key, a line of a manifest and a file at home.
    """
    try:
        names = [name.encode("utf-8") for name in path.split("/")]
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if any(c < " " or "\x7f" <= c <= "\x9f" or c in "\ufffe\uffff" for c in path):
        return "its name has a control character"
    if any(name in (b"", b".", b"..") for name in names):
        return "its name has an empty, '.' or '..' part"
    longest = max(len(name) for name in names)
    if longest > LONGEST_NAME:
        return f"its name has {longest} bytes, {LONGEST_NAME} are the most"
    whole = sum(len(name) + 1 for name in names) - 1
    return f"its path has {whole} bytes, {LONGEST_PATH} are the most" if whole > LONGEST_PATH else None


def printable(path: str) -> str:
    """Return a path as one line that every terminal and every document takes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


# ---- patterns


def compile_pattern(pattern: str, anywhere: bool) -> re.Pattern[str]:
    """Return a regular expression for a glob over paths; what matches a folder matches everything below it.

    ``*`` and ``?`` stay within one name, ``**`` crosses names. With ``anywhere`` a pattern without ``/`` may match
    any name of the path, as in a .gitignore.
    """
    text = pattern.strip("/")
    start = "(?:.*/)?" if anywhere and "/" not in text else ""
    return re.compile(start + "".join(_token(token) for token in _TOKENS.findall(text)) + r"(?:/.*)?\Z", re.DOTALL)


def compile_outputs(patterns: list[str]) -> list[tuple[bool, re.Pattern[str]]]:
    """Return outputs ready for is_output; one that begins with ``!`` leaves out."""
    return [(not pattern.startswith("!"), compile_pattern(pattern.lstrip("!"), False)) for pattern in patterns]


def literal(path: str) -> str:
    """Return the pattern that matches a path and nothing else."""
    return re.sub(r"([*?[])", r"[\1]", path)


def is_output(path: str, outputs: list[tuple[bool, re.Pattern[str]]]) -> bool:
    """Tell whether a path is among the outputs: the last pattern that matches it decides."""
    return next((included for included, pattern in reversed(outputs) if pattern.match(path)), False)


def _token(token: str) -> str:
    known = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if token in known:
        return known[token]
    if len(token) > 2 and token[0] == "[" and token[-1] == "]":
        inner = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return "[^/" + inner[1:] + "]" if inner[0] in "!^" else "[" + inner + "]"
    return re.escape(token)


# ---- a folder


class FolderEntry:
    """One entry of a folder: its path there, where its bytes are, its status, and why it cannot be taken."""

    __slots__ = ("path", "source", "status", "why")

    def __init__(self, path: str, source: str, status: os.stat_result, why: str | None) -> None:
        self.path, self.source, self.status, self.why = path, source, status, why


def walk(root: str) -> Iterator[FolderEntry]:
    """Yield everything below a folder that is no folder itself.

    A link to a file or folder inside stands for what it points to; one that leads out, to nothing or in a circle is told.
    """
    top = os.path.realpath(root)
    waiting = [("", top, [top], 0)]
    while waiting:
        folder, real, above, deep = waiting.pop()
        try:
            entries = sorted(os.scandir(real), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue  # it went away meanwhile: what was in it is then missing at the second look
        except OSError as error:
            yield FolderEntry(folder, real, os.lstat(real), f"this folder cannot be read: {error.strerror}")
            continue
        for entry in entries:
            path = folder + "/" + entry.name if folder else entry.name
            try:
                seen = FolderEntry(path, os.path.join(real, entry.name), entry.stat(follow_symlinks=False), None)
            except FileNotFoundError:
                continue
            link = stat.S_ISLNK(seen.status.st_mode)
            if link:
                seen = follow(seen, top, above, deep)
            if seen.why is None and stat.S_ISDIR(seen.status.st_mode):
                waiting.append((path, seen.source, [*above, seen.source], deep + link))
            else:
                yield seen


def follow(link: FolderEntry, top: str, above: list[str], deep: int) -> FolderEntry:
    """Return what a link stands for, or the link itself with the reason why it is not followed."""
    target, why = os.path.realpath(link.source), None
    try:
        status = os.stat(target)
    except OSError as error:
        return FolderEntry(link.path, link.source, link.status, "a link to " + ("nothing" if error.errno == errno.ENOENT else "nowhere"))
    if target != top and not target.startswith(top.rstrip("/") + "/"):
        why = "a link to outside the output"
    elif target in above:
        why = "a link to a folder it lies in"
    elif stat.S_ISDIR(status.st_mode) and deep >= LINKS_DEEP:
        why = "a link inside linked folders"
    return FolderEntry(link.path, link.source, link.status, why) if why else FolderEntry(link.path, target, status, None)


def open_file(path: str) -> IO[bytes]:
    """Open a regular file; whoever opens a FIFO or a device waits for ever."""
    flags = os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(path, flags)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return open(handle, "rb", buffering=0)
    os.close(handle)
    raise Changed("it is no regular file")


# ---- hashes


def fingerprint(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written to or replaced."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def crc32_text(value: int) -> str:
    """Return a CRC32 as S3 writes it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def crc32_combine(first: int, second: int, length: int) -> int:
    """Return the CRC32 of two pieces that follow each other, from theirs and the length of the second."""
    return _times(_zeros(length), first) ^ second


@functools.lru_cache(maxsize=64)
def _zeros(length: int) -> int:
    """Return x to the power of 8 * length, modulo CRC32's polynomial: what so many zero bytes do to a CRC."""
    power, square = 1 << 31, 1 << 23
    while length:
        if length & 1:
            power = _times(square, power)
        square, length = _times(square, square), length >> 1
    return power


def _times(first: int, second: int) -> int:
    """Multiply two polynomials modulo CRC32's; bits are reflected, as zlib keeps them."""
    product = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = second >> 1 ^ 0xEDB88320 if second & 1 else second >> 1
    return product


def part_size_for(size: int, part_size: int) -> int:
    """Return the part size of a file: at most 10,000 parts, all of one size but the last."""
    while size > 10000 * part_size:
        part_size *= 2
    return part_size


def hash_file(
    path: str, part_size: int, md5: bool, limit: int | None = None, sha256: bool = True
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Return the hashes of a file, whole and by part, and its fingerprint; raises Changed when it is written meanwhile.

    ``limit`` takes only the first bytes of a file that may grow (a log). Without ``sha256`` that one is left empty.
    """
    with open_file(path) as file:
        before = os.fstat(file.fileno())
        size = before.st_size if limit is None else limit
        part_size = part_size_for(size, part_size)
        spans = [(start, min(part_size, size - start)) for start in range(0, size, part_size) or (0,)]
        whole = hashlib.sha256()
        if sha256:
            pieces = [hash_part(read_blocks(file, length), md5, whole) for _, length in spans]
        else:
            # Only a sha256 has to see the bytes in their order.
            with concurrent.futures.ThreadPoolExecutor(min(len(spans), 4, os.cpu_count() or 2)) as pool:
                pieces = list(pool.map(lambda span: hash_part(read_span(file, *span), md5), spans))
        if limit is None and fingerprint(os.fstat(file.fileno())) != fingerprint(before):
            raise Changed("it was written to while it was read")
    full = 0
    for (crc, _), (_, length) in zip(pieces, spans):  # noqa: B905 (Python 3.8)
        full = crc32_combine(full, crc, length)
    result = {
        "size": size, "sha256": whole.hexdigest() if sha256 else "", "crc32": crc32_text(full),
        "parts": [crc32_text(crc) for crc, _ in pieces], "part_size": part_size,
    }  # fmt: skip
    return (dict(result, md5=[digest for _, digest in pieces]) if md5 else result), fingerprint(before)


def hash_part(blocks: Iterator[memoryview], md5: bool, whole: Any = None) -> tuple[int, str]:
    """Return CRC32 and MD5 (empty unless it is asked for) of a part; ``whole`` is a hash that sees its bytes, too."""
    crc, digest = 0, hashlib.md5()
    for block in blocks:
        crc = zlib.crc32(block, crc)
        if whole is not None:
            whole.update(block)
        if md5:
            digest.update(block)
    return crc, digest.hexdigest() if md5 else ""


def read_span(file: IO[bytes], offset: int, length: int) -> Iterator[memoryview]:
    """Yield a range of a file, which other threads may read, too, as read_blocks() does."""
    space = memoryview(bytearray(min(BLOCK, length)))
    while length:
        count = os.preadv(file.fileno(), [space[: min(BLOCK, length)]], offset)
        if not count:
            raise Changed("it is shorter than it was")
        offset, length = offset + count, length - count
        yield space[:count]


def read_blocks(file: IO[bytes], length: int) -> Iterator[memoryview]:
    """Yield exactly ``length`` bytes of a file; raises Changed when it ends before.

    All blocks lie in the same memory (new memory for each costs more than reading it): one is good until the next.
    """
    space = memoryview(bytearray(min(BLOCK, length)))
    while length:
        count = file.readinto(space[: min(BLOCK, length)])  # type: ignore[attr-defined]
        if not count:
            raise Changed("it is shorter than it was")
        length -= count
        yield space[:count]
