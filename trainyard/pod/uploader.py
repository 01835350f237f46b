"""Look at a pod's output and send it where presigned URLs point. One file, standard library only, Python 3.8 or newer.

Runs ON the pod. Knows no key of any store and no name of any run: it hashes files and carries out a plan of bound
requests. A scan takes the CRC32s that bind the requests; the sha256 of big files is taken while they are sent.

    uploader.py scan    what to look at, on stdin -> one JSON object: files with hashes, what is left out and why
    uploader.py look    the same while the training runs -> files that are final, with hashes, and the newest checkpoint
    uploader.py send    a plan on stdin -> JSON lines; exit 0 when every item is stored and every hash taken, else 1
    uploader.py copy    files and where to copy them (a mounted bucket), on stdin -> JSON lines like send's
    uploader.py sample  ranges of files on stdin -> the sha256 of each
"""

from __future__ import annotations

import base64
import collections
import concurrent.futures
import contextlib
import errno
import functools
import hashlib
import json
import os
import random
import re
import stat
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import http.client
    import ssl
    from urllib.parse import SplitResult

# A block stays in the processor's cache while it is read, hashed and sent.
BLOCK = 256 << 10
PIECE = 8 << 20
LONGEST_NAME = 255
# A key has at most 1,024 bytes, and up to 120 of them name the run.
LONGEST_PATH = 900
LINKS_DEEP = 3
TRIES = 6
PROGRESS_SECONDS = 0.5
CONNECT_SECONDS = 20
# A log up to this size travels inside the scan's answer; a longer one is sent like the result.
INLINE = 256 * 1024
# Refusals that may be the wire's or the moment's fault.
PASSING = ("BadDigest", "XAmzContentChecksumMismatch", "RequestTimeout", "SlowDown", "IncompleteBody")
# What stands for a status where no store has answered: nobody did, or the file is not the one that was planned.
NO_ANSWER, OTHER_FILE = 0, 1
_CODE = re.compile(rb"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,300})</Message>")
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


# ---- scan


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


def sort_out(spec: dict[str, Any]) -> tuple[dict[str, FolderEntry], list[dict[str, Any]]]:
    """Return the files that the patterns want, and the report on all others: ``patterns`` are those that cannot be taken."""
    patterns = compile_outputs(spec["outputs"])
    unwanted = [compile_pattern(pattern, True) for pattern in spec["excludes"]]
    chosen: dict[str, FolderEntry] = {}
    left_out: list[dict[str, Any]] = []
    for seen in walk(spec["root"]):
        why, asked = None, False
        if any(pattern.match(seen.path) for pattern in unwanted):
            why = "excluded"
        elif seen.path and not is_output(seen.path, patterns):
            why = "no output pattern"
        else:
            why, asked = seen.why or untaken(seen, spec), True
        if why is None:
            chosen[seen.path] = seen
        else:
            size = seen.status.st_size if stat.S_ISREG(seen.status.st_mode) else 0
            name = seen.path or os.path.basename(spec["root"].rstrip("/"))  # the folder itself, which is none
            left_out.append({"path": printable(name), "size": size, "why": why, "wanted": asked})
    return chosen, left_out


def untaken(seen: FolderEntry, spec: dict[str, Any]) -> str | None:
    """Return why what lies there can be no file of the result, None when it can."""
    if not stat.S_ISREG(seen.status.st_mode):
        return "not a file"
    return "its name is kept for the commit itself" if seen.path.split("/")[0] in spec.get("reserved", ()) else name_problem(seen.path)


# ---- checkpoints (of a training that was no success)


def pick_checkpoints(root: str, pattern: str, mark: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the checkpoints to keep, newest first, and why each other one is not.

    With ``mark`` the newest one that is complete: it holds a file of that name, which may list its files' sizes as JSON.
    Without it nobody can tell whether the newest one is whole: the two newest are kept.
    """
    newest, left = newest_first(root, pattern, mark)
    most = 1 if mark else 2
    left.update(dict.fromkeys(newest[most:], "an older checkpoint"))
    return newest[:most], left


def newest_first(root: str, pattern: str, mark: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the checkpoints that lack no mark, newest first, and the others with what they lack."""
    left: dict[str, str] = {}
    whole = []
    for path in find_checkpoints(root, pattern):
        if mark and not is_complete(os.path.join(root, path), mark):
            left[path] = "a checkpoint that is not complete"
        else:
            whole.append((changed_at(os.path.join(root, path)), [int(n) for n in re.findall("[0-9]+", path)], path))
    return [path for _, _, path in sorted(whole, reverse=True)], left


def find_checkpoints(root: str, pattern: str) -> list[str]:
    """Return what matches the pattern of a recipe's checkpoints as a whole: folders, or single files; no links, no drafts (hidden)."""
    places = [""]
    for part in pattern.strip("/").split("/"):
        names = ((path, name) for path in places for name in names_in(os.path.join(root, path)))
        places = [os.path.join(path, name) for path, name in names if name.startswith(".") <= part.startswith(".")]
    matches = compile_pattern(pattern, False)
    return [path for path in places if matches.match(path) and not os.path.islink(os.path.join(root, path))]


def names_in(folder: str) -> list[str]:
    """Return what lies in a folder; nothing when it is none."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def changed_at(path: str) -> int:
    """Return when a checkpoint was last written to."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names] or [path]
    return max((os.lstat(file).st_mtime_ns for file in files if os.path.lexists(file)), default=0)


def is_complete(folder: str, mark: str) -> bool:
    """Tell whether a checkpoint has its mark, and every file that the mark lists in its size."""
    try:
        with open_file(os.path.join(folder, mark)) as file:
            sizes = json.loads(file.read())
    except ValueError:
        return True  # a mark of another form: that it is there says all
    except (OSError, Changed):
        return False
    if not isinstance(sizes, dict):
        return True
    try:
        return all(os.path.getsize(os.path.join(folder, name)) == size for name, size in sizes.items() if isinstance(size, int))
    except OSError:
        return False


def with_checkpoints(spec: dict[str, Any]) -> tuple[dict[str, Any], list[str], dict[str, str]]:
    """Return the spec with the chosen checkpoints among its outputs, their paths, and the others with the reason."""
    pattern = spec.get("checkpoints")
    if not pattern:
        return spec, [], {}
    chosen, left = pick_checkpoints(spec["root"], pattern["pattern"], pattern["mark"])
    return dict(spec, outputs=list(spec["outputs"]) + [literal(path) for path in chosen]), chosen, left


# ---- the scan itself


def scan(spec: dict[str, Any]) -> dict[str, Any]:
    """Hash what is wanted, and say what was left out, cannot be read or is still changing."""
    if not os.path.isdir(spec["root"]) and not spec.get("keep"):
        return {"error": "there is no folder " + spec["root"]}
    spec, checkpoints, other = with_checkpoints(spec)
    chosen, left_out = sort_out(spec)
    for entry in left_out:
        entry["why"] = next((why for path, why in other.items() if (entry["path"] + "/").startswith(path + "/")), entry["why"])
    files, unreadable, changed = [], [], {}

    def look(path: str) -> Any:
        try:
            return look_at_file(path, chosen[path], spec)
        except (OSError, Changed) as error:
            return error if not isinstance(error, FileNotFoundError) else Changed("it went away")

    # zlib and hashlib let go of the interpreter's lock: threads use all cores.
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 2)) as pool:
        for path, result in zip(chosen, pool.map(look, chosen)):  # noqa: B905 (Python 3.8)
            if isinstance(result, Changed):
                changed[path] = str(result)
            elif isinstance(result, OSError):
                why = f"cannot be read: {result.strerror}"
                passing = result.errno not in (errno.EACCES, errno.EPERM)
                unreadable.append({"path": path, "size": chosen[path].status.st_size, "why": why, "wanted": True, "passing": passing})
            else:
                files.append(result)
    note_changes(spec, chosen, changed)
    extra = [listing for listing in (look_at_log(entry, spec) for entry in spec["extra"]) if listing]
    files.sort(key=lambda entry: entry["path"])
    unstable = [{"path": path, "why": why} for path, why in sorted(changed.items())]
    return {"files": files, "left_out": left_out, "unreadable": unreadable, "changed": unstable, "extra": extra, "checkpoints": checkpoints}


def look_at_file(path: str, seen: FolderEntry, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a file's hashes and fingerprint: known ones where it has not changed, else as they are taken now."""
    now = fingerprint(seen.status)
    known = spec.get("known", {}).get(path)
    if known and known["fingerprint"] == list(now):
        return dict(known, path=path, source=seen.source)
    most = spec.get("sha256_up_to")  # of bigger files it is taken while they are sent
    result, then = hash_file(seen.source, spec["part_size"], spec["md5"], sha256=most is None or seen.status.st_size <= most)
    if then != now:
        raise Changed("it was written to")
    return dict(result, path=path, source=seen.source, fingerprint=list(now))


def note_changes(spec: dict[str, Any], chosen: dict[str, Any], changed: dict[str, str]) -> None:
    """Add what is not as it was: a file hashed early may have been written while the others were; new ones may have come."""
    after, _ = sort_out(spec)
    prints = [{path: fingerprint(seen.status) for path, seen in listing.items()} for listing in (chosen, after)]
    for path in set(chosen) | set(after):
        if prints[0].get(path) != prints[1].get(path):
            changed.setdefault(path, "it appeared, changed or went away during the scan")


def look_at_log(entry: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any] | None:
    """Return a file outside the result; its present length counts, as a log may grow. A missing one is no error."""
    try:
        with open_file(entry["path"]) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= INLINE:
                return dict(entry, inline=base64.b64encode(b"".join(map(bytes, read_blocks(file, size)))).decode("ascii"))
        return dict(hash_file(entry["path"], spec["part_size"], spec["md5"], limit=size)[0], **entry)
    except (OSError, Changed):
        return None


# ---- look (while the training runs)


def look(spec: dict[str, Any]) -> dict[str, Any]:
    """Hash what is final of a result that is still being made, at most ``most`` bytes of it (one file at least).

    ``known`` are fingerprints of what was told before, by path; ``now`` those of what is there. ``after`` are the seconds
    that a file must not have been written to, renamed or linked (ctime, which no program can set) to count as final:
    ``whole``, one that says itself that it is whole; ``quiet``, any other; ``again``, one that was told and has changed;
    ``unmarked``, all of a checkpoint without a mark.
    """
    if not os.path.isdir(spec["root"]):
        return {"files": [], "now": {}, "checkpoint": None}
    chosen = {path: seen for path, seen in sort_out(spec)[0].items() if seen.status.st_size >= spec["least"]}
    fresh = {path: seen for path, seen in chosen.items() if spec["known"].get(path) != list(fingerprint(seen.status))}
    settled = {path: seen for path, seen in fresh.items() if is_settled(seen, path in spec["known"], spec["after"])}
    written = written_now(seen.status for seen in settled.values())
    files: list[dict[str, Any]] = []
    for path, seen in sorted(settled.items(), key=lambda one: one[1].status.st_ctime_ns):
        if file_id(seen.status) in written or sum(entry["size"] for entry in files) >= spec["most"]:
            continue
        try:
            files.append(look_at_file(path, seen, {"part_size": spec["part_size"], "md5": spec["md5"]}))
        except (OSError, Changed):
            continue  # the next look sees it, or the end
    now = {path: list(fingerprint(seen.status)) for path, seen in chosen.items()}
    return {"files": files, "now": now, "checkpoint": newest_whole(spec)}


def is_settled(seen: FolderEntry, was_known: bool, after: dict[str, float]) -> bool:
    """Tell whether a file looks final; whether somebody has it open to write is asked afterwards."""
    age = time.time() - seen.status.st_ctime
    if was_known:
        return age >= after["again"]
    return age >= after["quiet"] or (age >= after["whole"] and seen.path.endswith(".safetensors") and is_whole_safetensors(seen.source))


def is_whole_safetensors(path: str) -> bool:
    """Tell whether a file of safetensors has all the bytes that its own header names."""
    try:
        with open_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= 100 << 20 else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return bool(os.fstat(file.fileno()).st_size == 8 + length + max(ends))
    except (OSError, Changed, ValueError, TypeError, AttributeError, KeyError, IndexError):
        return False


def file_id(status: os.stat_result) -> tuple[int, int]:
    """Return what makes a file itself, whatever it is called."""
    return status.st_dev, status.st_ino


def written_now(files: Iterable[os.stat_result]) -> set[tuple[int, int]]:
    """Return which of some files a process that can be seen may be writing to. Asks /proc alone, which disturbs nobody."""
    asked = {file_id(status) for status in files}
    processes = ["/proc/" + name for name in names_in("/proc") if name.isdigit()] if asked else []
    return {one for process in processes for held in (opened_to_write, mapped_to_write) for one in held(process, asked)}


def opened_to_write(process: str, asked: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give which of some files a process (its folder in /proc) has open to write."""
    for number in names_in(process + "/fd"):
        try:
            one = file_id(os.stat(process + "/fd/" + number))
            if one in asked:
                with open(process + "/fdinfo/" + number, "rb") as file:
                    flags = next((line.split()[1] for line in file if line.startswith(b"flags:")), b"0")
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    yield one
        except OSError:
            continue  # the process has ended, or closed it


def mapped_to_write(process: str, asked: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give which of some files a process writes to through its memory: that needs no open file, and ctime may not change for long."""
    try:
        with open(process + "/maps", "rb") as file:
            lines = [line.rstrip(b"\n").split(None, 5) for line in file if b"s " in line[:80]]
    except OSError:
        return  # it has ended, or is another user's
    for path in {line[5] for line in lines if len(line) == 6 and line[1][1:2] == b"w" and line[1][3:4] == b"s"}:
        with contextlib.suppress(OSError):
            one = file_id(os.stat(path))
            if one in asked:
                yield one


def newest_whole(spec: dict[str, Any]) -> str | None:
    """Return the newest checkpoint that is complete: by its mark or, where the recipe has none, because it rests."""
    pattern = spec.get("checkpoints")
    if not pattern:
        return None
    # Of all: where they come faster than one has rested, the two newest never have.
    newest, _ = newest_first(spec["root"], pattern["pattern"], pattern["mark"])
    after = spec["after"]["unmarked"]
    return next((path for path in newest if pattern["mark"] or rests(os.path.join(spec["root"], path), after)), None)


def rests(place: str, after: float) -> bool:
    """Tell whether nothing of a checkpoint was written to for some seconds, and nobody has it open to write."""
    try:
        files = [entry.status for entry in walk(place)] if os.path.isdir(place) else [os.lstat(place)]
        quiet = all(time.time() - status.st_ctime >= after for status in [*files, os.lstat(place)])
    except OSError:
        return False
    return bool(files) and quiet and not written_now(files)


def sample(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the sha256 of ranges of files; of what is not there any more an empty one, which agrees with nothing."""
    result = []
    for item in spec["ranges"]:
        digest = hashlib.sha256()
        try:
            with open_file(item["path"]) as file:
                file.seek(item["offset"])
                for block in read_blocks(file, item["length"]):
                    digest.update(block)
            result.append(digest.hexdigest())
        except (OSError, Changed):
            result.append("")
    return {"sha256": result}


# ---- send


class JsonLines:
    """JSON lines, written by several threads."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.lock = stream, threading.Lock()

    def say(self, **event: Any) -> None:
        """Write one line at once."""
        with self.lock:
            self.stream.write(json.dumps(event) + "\n")
            self.stream.flush()


class BytesSent:
    """The bytes that one attempt has put on the wire, and the sha256 that sees them; they do not count when it fails."""

    def __init__(self, whole: Any) -> None:
        self.bytes, self.whole = 0, whole


class Queue:
    """The items of a plan, for threads that take one after the other.

    A thread goes on with the file it is at, so that the bytes of a file are sent in their order as far as they can be.
    """

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.lock = threading.Lock()
        self.left: dict[str, collections.deque[dict[str, Any]]] = {}
        for item in items:
            self.left.setdefault(item["path"], collections.deque()).append(item)
        self.untouched = collections.deque(self.left)

    def take(self, path: str | None) -> dict[str, Any] | None:
        """Return the next item for a thread that was at a file: of the same one, of one nobody is at, of the one with most left."""
        with self.lock:
            items = self.left[path] if path is not None else None
            if not items:
                items = self.left[self.untouched.popleft()] if self.untouched else max(self.left.values(), key=len, default=None)
            return items.popleft() if items else None


class Sender:
    """Carry out a plan: each item is one PUT of a range of a file, to a URL bound to its bytes; ``hash`` names files to hash meanwhile."""

    def __init__(self, plan: dict[str, Any], output: JsonLines, pause: Callable[[float], None] = time.sleep) -> None:
        self.items, self.output, self.pause = plan["items"], output, pause
        self.threads, self.tries, self.timeout = plan.get("threads", 8), plan.get("tries", TRIES), plan.get("timeout", 120)
        self.backoff = plan.get("backoff", 0.5)
        self.total, self.sent = sum(item["length"] for item in self.items), 0
        self.lock, self.over = threading.Lock(), threading.Event()
        self.reached, self.hopeless = False, False
        self.links, self.hashers = Links(self.timeout), Hashers(plan.get("hash", []), self.items, output)

    def run(self) -> int:
        """Send all items; returns the number of those that failed, and of files that could not be hashed."""
        reporter = threading.Thread(target=self.report, daemon=True)
        reporter.start()
        with concurrent.futures.ThreadPoolExecutor(self.threads) as pool, self.hashers.at_work() as hashed:
            failed = sum(pool.map(self.work, [Queue(self.items)] * self.threads))
            failed += sum(not known for known in hashed)
        self.over.set()
        reporter.join()
        for connection in self.links.all:
            connection.close()
        self.output.say(event="done", sent=self.sent, total=self.total, failed=failed)
        return failed

    def report(self) -> None:
        """Say twice a second how far we are. Nobody reading means that the controller's link is dead: the next one plans anew."""
        try:
            while not self.over.wait(PROGRESS_SECONDS):
                self.output.say(event="progress", sent=self.sent, total=self.total)
        except OSError:
            os._exit(3)

    def work(self, queue: Queue) -> int:
        """Send item after item; returns how many failed."""
        failed, item = 0, queue.take(None)
        while item is not None:
            with self.hashers.sending(item) as hashed:
                failed += not self.item(item, hashed)
            item = queue.take(item["path"])
        return failed

    def item(self, item: dict[str, Any], hashed: SentHash) -> bool:
        """Send one item with retries; what the store refuses for good is not repeated."""
        reason: dict[str, Any] = {}
        for attempt in range(self.tries):
            if self.hopeless:
                reason = {"code": "Network", "message": "not tried: the store was never reached"}
                break
            if attempt:
                self.pause(min(30.0, self.backoff * 2.0**attempt) * random.uniform(0.5, 1.0))
            sent = BytesSent(hashed.begin())
            status, reason = self.attempt(item, sent)
            self.reached = self.reached or status not in (NO_ANSWER, OTHER_FILE)
            if status in (200, 201, 204) or (status == 412 and item.get("exists_ok")):
                if status != 412 and sent.bytes == item["length"]:
                    hashed.proven = sent.whole
                self.output.say(event="stored", id=item["id"], status=status)
                return True
            self.count(-sent.bytes)
            if NO_ANSWER < status < 500 and status not in (408, 425, 429) and reason["code"] not in PASSING:
                break
        # One item that used up its tries without the store ever answering anybody speaks for all: an hour of waiting saved.
        self.hopeless = self.hopeless or (not self.reached and reason.get("code") == "Network")
        self.output.say(event="failed", id=item["id"], **reason)
        return False

    def attempt(self, item: dict[str, Any], sent: BytesSent) -> tuple[int, dict[str, Any]]:
        """Make one request; returns the status (or NO_ANSWER, OTHER_FILE) and what the store said."""
        import http.client

        try:
            status, body = self.put(item, sent)
        except (Changed, FileNotFoundError) as error:
            return OTHER_FILE, {"code": "Changed", "message": item["path"] + ": " + str(error)}
        except (OSError, http.client.HTTPException) as error:
            self.links.drop()
            return NO_ANSWER, {"code": "Network", "message": f"{type(error).__name__}: {error}"}
        code = _CODE.search(body)
        code_text = code.group(1).decode("ascii", "replace") if code else str(status)
        words = _MESSAGE.search(body)
        return status, {
            "status": status,
            "code": code_text,
            "message": (words.group(1) if words else body[:300]).decode("utf-8", "replace"),
        }

    def put(self, item: dict[str, Any], sent: BytesSent) -> tuple[int, bytes]:
        """Send the bytes; returns status and body of the answer."""
        with open_file(item["path"]) as file:
            connection, target = self.links.open(item["url"])
            connection.putrequest("PUT", target, skip_accept_encoding=True)
            connection.putheader("Content-Length", str(item["length"]))
            # No Content-Type and no x-amz-* header but those that were signed: stores refuse others.
            for name, value in item["headers"].items():
                connection.putheader(name, value)
            try:
                connection.endheaders()
                for length in send_range(connection.sock, file, item["offset"], item["length"], sent.whole):
                    sent.bytes += length
                    self.count(length)
            except (BrokenPipeError, ConnectionResetError):
                # A refused request is answered while its body is still on the way: the answer says why.
                return self.answer(connection, last=True)
            except Changed:
                self.links.drop()
                raise
        return self.answer(connection, last=False)

    def answer(self, connection: http.client.HTTPConnection, last: bool) -> tuple[int, bytes]:
        """Read the answer; a 200 with an error in its body is an error."""
        response = connection.getresponse()
        body = response.read(8192)
        if last or response.will_close or response.read(1):
            self.links.drop()
        return (500 if response.status == 200 and b"<Error>" in body else response.status), body

    def count(self, number: int) -> None:
        """Count bytes on the wire."""
        with self.lock:
            self.sent += number


def send_range(sock: Any, file: IO[bytes], offset: int, length: int, whole: Any = None) -> Iterator[int]:
    """Send a range of a file and yield the size of each piece; ``whole`` is a hash that sees the bytes, too.

    Where nothing is hashed or encrypted the kernel does it alone.
    """
    import ssl

    if whole is not None or isinstance(sock, ssl.SSLSocket):
        file.seek(offset)
        for block in read_blocks(file, length):
            if whole is not None:
                whole.update(block)
            sock.sendall(block)
            yield len(block)
        return
    while length:
        count = sock.sendfile(file, offset, min(PIECE, length))
        if not count:
            raise Changed("it is shorter than it was")
        offset, length = offset + count, length - count
        yield count


class SentHash:
    """The sha256 of a file up to a part that is being sent (None: the part is hashed later) and, once the store has it, with it."""

    def __init__(self, before: Any) -> None:
        self.before, self.proven = before, None

    def begin(self) -> Any:
        """Return the hash for one attempt."""
        return None if self.before is None else self.before.copy()


class FileHash:
    """How far a file is hashed. Whoever has set ``busy`` hashes on from ``done``, nobody else."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry, self.whole, self.done, self.busy = entry, hashlib.sha256(), 0, False


class Hashers:
    """Take the sha256 of files while they are sent.

    A part that begins where the hash of its file ends is hashed as it is sent, from the same memory: the store that takes
    it proves by the CRC32 of the plan that these are the bytes. Any other is read once more (it has just been read to be
    sent), and must have the CRC32 of the plan. So the hash is of the bytes that the store has proven.
    """

    def __init__(self, files: list[dict[str, Any]], items: list[dict[str, Any]], output: JsonLines) -> None:
        self.files, self.output, self.moved = [FileHash(entry) for entry in files], output, threading.Condition()
        self.by_path = {file.entry["path"]: file for file in self.files}
        self.ahead = {(item["path"], item["offset"]) for item in items}

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Iterator[bool]]:
        """Hash by threads; gives whether each file could be hashed."""
        with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 2)) as pool:
            try:
                yield pool.map(self.file, self.files)
            finally:
                with self.moved:
                    self.ahead.clear()
                    self.moved.notify_all()

    @contextlib.contextmanager
    def sending(self, item: dict[str, Any]) -> Iterator[SentHash]:
        """Take note that a part is being sent; gives the hash that is to see it."""
        with self.moved:
            self.ahead.discard((item["path"], item["offset"]))
            file = self.by_path.get(item["path"])
            if file is None or file.busy or file.done != item["offset"]:
                file = None
            else:
                file.busy = True
            self.moved.notify_all()
        sent = SentHash(None if file is None else file.whole)
        try:
            yield sent
        finally:
            if file is not None:
                with self.moved:
                    if sent.proven is not None:
                        file.whole, file.done = sent.proven, file.done + item["length"]
                    file.busy = False
                    self.moved.notify_all()

    def file(self, file: FileHash) -> bool:
        """Hash one file and say so."""
        path = file.entry["path"]
        try:
            self.finish(file)
        except (OSError, Changed) as error:
            changed = isinstance(error, (Changed, FileNotFoundError))
            code = "Changed" if changed else type(error).__name__
            self.output.say(event="unhashed", path=path, code=code, message=str(error))
            return False
        self.output.say(event="hashed", path=path, sha256=file.whole.hexdigest())
        return True

    def finish(self, file: FileHash) -> None:
        """Hash what the sending does not; raises Changed when the bytes are not those of the plan."""
        entry = file.entry
        with open_file(entry["path"]) as opened:
            while self.is_left(file):
                length, crc = min(entry["part_size"], entry["size"] - file.done), 0
                for block in read_span(opened, file.done, length):
                    file.whole.update(block)
                    crc = zlib.crc32(block, crc)
                if crc32_text(crc) != entry["parts"][file.done // entry["part_size"]]:
                    raise Changed("it is not the file that was scanned")
                with self.moved:
                    file.done, file.busy = file.done + length, False
            if os.fstat(opened.fileno()).st_size != entry["size"]:
                raise Changed("it is longer than it was")

    def is_left(self, file: FileHash) -> bool:
        """Wait until a file's next part is to be hashed from the file, which nobody else does then; False when all are hashed."""
        with self.moved:
            while file.busy or (file.entry["path"], file.done) in self.ahead:
                self.moved.wait()
            file.busy = file.done < file.entry["size"]
            return file.busy


class Links:
    """One connection a thread, through the proxy that the environment names."""

    def __init__(self, timeout: float) -> None:
        self.timeout, self.mine, self.lock = timeout, threading.local(), threading.Lock()
        self.trusted: ssl.SSLContext | None = None
        self.all: list[http.client.HTTPConnection] = []

    def open(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        """Return this thread's connection to a URL's host, and what to ask it for."""
        import urllib.parse

        parts = urllib.parse.urlsplit(url)
        proxy = proxy_for(parts)
        if getattr(self.mine, "to", None) != parts.netloc or self.mine.connection is None:
            self.drop()
            connection = self.connect(parts, proxy)
            self.all.append(connection)
            self.mine.to, self.mine.connection = parts.netloc, connection
            connection.connect()
            connection.sock.settimeout(self.timeout)
        target = parts.path + ("?" + parts.query if parts.query else "")
        return self.mine.connection, url if proxy and parts.scheme == "http" else target

    def connect(self, parts: SplitResult, proxy: SplitResult | None) -> http.client.HTTPConnection:
        """Return a new connection, not opened yet; opening it must not take as long as an answer may."""
        import http.client

        where = proxy or parts
        port = where.port or (443 if where.scheme == "https" else 80)
        if parts.scheme != "https":
            return http.client.HTTPConnection(where.hostname or "", port, timeout=CONNECT_SECONDS)
        secure = http.client.HTTPSConnection(where.hostname or "", port, timeout=CONNECT_SECONDS, context=self.context())
        if proxy:
            pair = (proxy.username or "") + ":" + (proxy.password or "")
            word = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
            secure.set_tunnel(parts.hostname or "", parts.port or 443, {"Proxy-Authorization": word} if proxy.username else {})
        return secure

    def context(self) -> ssl.SSLContext:
        """Return the one context of all connections: reading the certificates of an image takes 20 ms."""
        import ssl

        with self.lock:
            self.trusted = self.trusted or ssl.create_default_context()
            return self.trusted

    def drop(self) -> None:
        """Close this thread's connection; the next request opens another one."""
        connection, self.mine.connection = getattr(self.mine, "connection", None), None
        if connection is not None:
            connection.close()
            self.all.remove(connection)


def proxy_for(parts: SplitResult) -> SplitResult | None:
    """Return the proxy for a URL; this machine itself is never reached through one."""
    import urllib.parse
    import urllib.request

    host = parts.hostname or ""
    named = urllib.request.getproxies().get(parts.scheme)
    if not named or host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.parse.urlsplit(named if "://" in named else "http://" + named)


# ---- copy


class Copier:
    """Copy files into a mounted bucket: each appears under its name whole, on disk and with the announced sha256, or not at all."""

    def __init__(self, plan: dict[str, Any], output: JsonLines) -> None:
        self.items, self.folder, self.output, self.spare = plan["items"], plan["folder"], output, plan.get("spare", 0)
        self.total, self.sent, self.lock, self.reported_at = sum(item["size"] for item in self.items), 0, threading.Lock(), 0.0

    def run(self) -> int:
        """Copy all items; returns the number of those that failed."""
        missing = [item for item in self.items if not self.is_there(item)]
        for item in self.items:
            if item not in missing:
                self.output.say(event="stored", id=item["id"], status=200)
        free = os.statvfs(self.folder)
        room, need = free.f_bavail * free.f_frsize, sum(item["size"] for item in missing)
        if missing and room < need + self.spare:
            message = f"{need} bytes are to be copied, {room} are free" + (f", and {self.spare} must stay free" if self.spare else "")
            for item in missing:
                self.output.say(event="failed", id=item["id"], code="NoSpace", message=message)
            return len(missing)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            failed = sum(not stored for stored in pool.map(self.item, missing))
        self.output.say(event="done", sent=self.sent, total=self.total, failed=failed)
        return failed

    def is_there(self, item: dict[str, Any]) -> bool:
        """Tell whether an earlier copy has arrived whole; its bytes are read for it."""
        try:
            if os.path.getsize(item["dest"]) != item["size"]:
                return False
            return bool(hash_file(item["dest"], BLOCK, False)[0]["sha256"] == item["sha256"])
        except (OSError, Changed):
            return False

    def item(self, item: dict[str, Any]) -> bool:
        """Copy one file."""
        draft = os.path.join(self.folder, "tmp", ".copy-{}-{}".format(os.getpid(), item["id"]))
        try:
            for path in (draft, item["dest"]):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            self.copy(item, draft)
            os.replace(draft, item["dest"])
            sync_folder(os.path.dirname(item["dest"]))
        except (OSError, Changed) as error:
            self.output.say(event="failed", id=item["id"], code=type(error).__name__, message=str(error))
            return False
        finally:
            if os.path.exists(draft):
                os.unlink(draft)
        self.output.say(event="stored", id=item["id"], status=200)
        return True

    def copy(self, item: dict[str, Any], draft: str) -> None:
        """Write the bytes to disk; raises Changed when they are not those that were announced."""
        digest = hashlib.sha256()
        with open_file(item["path"]) as source, open(draft, "wb") as target:
            for block in read_blocks(source, item["size"]):
                digest.update(block)
                target.write(block)
                self.count(len(block))
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != item["sha256"]:
            raise Changed(item["path"] + ": it is not the file that was scanned")

    def count(self, number: int) -> None:
        """Count bytes, and say twice a second how far we are."""
        with self.lock:
            self.sent += number
            if time.monotonic() - self.reported_at < PROGRESS_SECONDS:
                return
            self.reported_at = time.monotonic()
        self.output.say(event="progress", sent=self.sent, total=self.total)


def sync_folder(path: str) -> None:
    """Bring a folder's names to disk, where its file system can."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems refuse it for folders; the controller reads back in any case
    finally:
        os.close(handle)


def main(arguments: list[str]) -> int:
    """Run one verb; the exit code is 0, 1 (something was not stored) or 2 (usage)."""
    if len(arguments) != 1 or arguments[0] not in ("scan", "look", "send", "copy", "sample"):
        sys.stderr.write(__doc__ or "")
        return 2
    order = json.load(sys.stdin)
    os.nice(order.get("nice", 0))
    if arguments[0] == "send":
        return 1 if Sender(order, JsonLines(sys.stdout)).run() else 0
    if arguments[0] == "copy":
        return 1 if Copier(order, JsonLines(sys.stdout)).run() else 0
    json.dump({"scan": scan, "look": look, "sample": sample}[arguments[0]](order), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
