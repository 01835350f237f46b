"""Fetch files onto a pod: ranges of objects, by presigned URLs or out of a mounted bucket. Standard library only, Python 3.8 or newer.

Runs ON the pod, sent together with uploader.py, whose links it uses. Knows no key of any store and no name of any run. A
file gets its name only when it has the announced sha256; what is half fetched lies in a hidden folder beside the files,
with a list of what of it has arrived, so that the same order goes on with it after a kill.

    an order on stdin -> JSON lines; exit 0 when every file lies there, else 1
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import stat
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

from trainyard.pod.uploader import NO_ANSWER, PROGRESS_SECONDS, TRIES, Changed, JsonLines, Links, crc32_text, read_blocks

if TYPE_CHECKING:
    import http.client

# Beside the files.
FOLDER = ".trainyard-fetch"
# Between the name of a file and a part of its hash: what of it has come over SSH so far (remote/upload.py).
SLICES = ".slices-"
BLOCK = 1 << 20
SMALL = 1 << 20
# Bytes of one request; between what it is asked for it may hold so many that nobody wants.
SPAN, GAP = 32 << 20, 256 * 1024
OTHERS_SECONDS = 60
REDIRECTS = 5
# What no other try mends: the disk is full, or something lies where a file must be.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
_CODE = re.compile(rb"<Code>([^<]{1,80})</Code>")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/")


class Damaged(Exception):
    """The bytes that came are not those that were announced: they are asked for again."""


class OtherFile(Exception):
    """Every part was right as far as anybody knew, and the whole is not the file that was announced."""


class StoreAnswer(Exception):
    """The store answered, and not with the bytes. ``status`` is HTTP's, ``code`` the store's own word."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Over(Exception):
    """What ended everything has been told."""


class Target:
    """A file on its way: its extents arrive in any order, their hash is taken in the file's."""

    def __init__(self, number: int, entry: dict[str, Any], root: str) -> None:
        self.number, self.path, self.size, self.sha256 = number, entry["path"], entry["size"], entry["sha256"]
        self.bound, self.extents, self.mode = entry.get("bound", ""), entry["extents"], entry.get("mode", 0o644)
        self.dest, lengths = os.path.join(root, self.path), [extent[2] for extent in self.extents]
        known = json.dumps([self.path, self.size, self.sha256, self.bound, lengths])
        self.part = os.path.join(root, FOLDER, hashlib.sha256(known.encode("utf-8")).hexdigest()[:32])
        self.have: set[int] = set()
        self.lock, self.next = threading.Lock(), 0
        self.digest, self.hashed = hashlib.sha256(), 0
        self.over, self.failed = False, False

    @property
    def small(self) -> bool:
        """Whether it comes in one piece and is kept in memory until it is whole."""
        return len(self.extents) <= 1 and self.size <= SMALL

    def kept(self) -> str | None:
        """Return the sha256 of what has the file's name already, if that is the file; an unread one is known by what it was bound to."""
        try:
            status = os.lstat(self.dest)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != self.size:
            return None
        expected = self.sha256
        if expected is None:
            try:
                with open(self.part + ".sha256", encoding="ascii") as file:
                    expected = file.read()
            except OSError:
                return None
        digest = hashlib.sha256()
        try:
            with open(self.dest, "rb", buffering=0) as opened:
                for block in read_blocks(opened, self.size):
                    digest.update(block)
        except (OSError, Changed):
            return None
        return expected if digest.hexdigest() == expected else None

    def resume(self) -> None:
        """Read which parts have arrived before."""
        try:
            with open(self.part + ".list", encoding="ascii") as file:
                lines = file.read().split("\n")[:-1]
            if os.path.getsize(self.part) == self.size:
                self.have = {int(line) for line in lines if line.isdigit() and int(line) < len(self.extents)}
        except OSError:
            self.have = set()
        if not self.have and not self.small:
            self.forget()
            with open(self.part, "wb") as file:
                file.truncate(self.size)

    def forget(self) -> None:
        """Begin anew."""
        for path in (self.part, self.part + ".list"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.have, self.next, self.hashed, self.digest = set(), 0, 0, hashlib.sha256()

    def missing_bytes(self) -> int:
        """Return the bytes that the disk must still take."""
        if self.small:
            return int(self.size)
        absent = sum(extent[2] for number, extent in enumerate(self.extents) if number not in self.have)
        return int(min(absent, max(0, self.size - os.stat(self.part).st_blocks * 512)))

    def write(self, view: memoryview, offset: int) -> None:
        """Write bytes of the file where they belong."""
        handle = os.open(self.part, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            while view:
                done = os.pwrite(handle, view, offset)
                view, offset = view[done:], offset + done
        finally:
            os.close(handle)

    def arrived(self, number: int) -> bool:
        """Note that an extent is on disk, and hash on as far as all has come; True when the file is whole and has its name."""
        with self.lock:
            self.have.add(number)
            handle = os.open(self.part + ".list", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, b"%d\n" % number)
            finally:
                os.close(handle)
            return self.advance()

    def advance(self) -> bool:
        """Hash on: all bytes up to here have come, and most of them are still in memory."""
        if self.next not in self.have:
            return False
        with open(self.part, "rb", buffering=0) as file:
            file.seek(self.hashed)
            while self.next in self.have:
                length = self.extents[self.next][2]
                for block in read_blocks(file, length):
                    self.digest.update(block)
                self.next, self.hashed = self.next + 1, self.hashed + length
        if self.next < len(self.extents):
            return False
        self.name(self.digest.hexdigest())
        return True

    def name(self, digest: str) -> None:
        """Give the file its name, if it is the one that was announced; raises OtherFile, and all of it is forgotten, else."""
        if self.sha256 not in (None, digest):
            self.forget()
            raise OtherFile("its sha256 is " + digest)
        if os.path.isdir(self.dest) and not os.path.islink(self.dest):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.dest)
        os.makedirs(os.path.dirname(self.dest), exist_ok=True)
        if self.sha256 is None:
            with open(self.part + ".sha256", "w", encoding="ascii") as file:
                file.write(digest)
            self.sha256 = digest
        os.chmod(self.part, self.mode)
        os.replace(self.part, self.dest)
        if not self.small:
            os.unlink(self.part + ".list")
        self.over = True

    def take_whole(self, data: bytes | bytearray) -> None:
        """Write a small file, which has come as one piece."""
        digest = hashlib.sha256(data).hexdigest()
        if self.sha256 not in (None, digest):
            raise Damaged("its sha256 is " + digest)
        with open(self.part, "wb") as file:
            file.write(data)
        self.name(digest)


class Piece:
    """One extent of a file while it is read: where it lies in the object and in the file, how much of it has come."""

    __slots__ = ("at", "buffer", "crc", "crc32", "done", "have", "length", "number", "offset", "target")

    def __init__(self, target: Target, number: int, at: int) -> None:
        self.target, self.number, self.at = target, number, at
        _, self.offset, self.length, self.crc32 = target.extents[number]
        self.have, self.crc, self.done = 0, 0, False
        self.buffer = bytearray()

    def take(self, view: memoryview) -> None:
        """Take the bytes that come next."""
        self.crc = zlib.crc32(view, self.crc)
        if self.target.small:
            self.buffer += view
        else:
            self.target.write(view, self.at + self.have)
        self.have += len(view)

    def close(self) -> bool:
        """See to it that what has come is right; True when its file is whole with it. Raises Damaged, and begins anew, when it is not."""
        if self.crc32 and crc32_text(self.crc) != self.crc32:
            self.again()
            raise Damaged("a part is damaged")
        if not self.target.small:
            whole = self.target.arrived(self.number)
        else:
            try:
                self.target.take_whole(self.buffer)
            except Damaged:
                self.again()
                raise
            whole, self.buffer = True, bytearray()
        self.done = True
        return whole

    def again(self) -> None:
        """Forget what has come."""
        self.have, self.crc, self.done = 0, 0, False
        self.buffer = bytearray()


class Fetcher:
    """Carry out an order."""

    def __init__(self, order: dict[str, Any], output: JsonLines, pause: Callable[[float], None] = time.sleep) -> None:
        self.root, self.sources, self.output, self.pause = order["folder"], order["sources"], output, pause
        self.targets = [Target(number, entry, self.root) for number, entry in enumerate(order["files"])]
        self.threads, self.tries, self.backoff = order.get("threads", 8), order.get("tries", TRIES), order.get("backoff", 0.5)
        self.links, self.lock, self.ended = Links(order.get("timeout", 60)), threading.Lock(), threading.Event()
        self.total, self.done, self.moved = sum(target.size for target in self.targets), 0, 0
        self.reached, self.over = False, ""
        self.last = order.get("last", True)

    def run(self) -> int:
        """Fetch everything; returns the number of files that failed."""
        os.makedirs(os.path.join(self.root, FOLDER), mode=0o700, exist_ok=True)
        reporter = threading.Thread(target=self.report, daemon=True)
        reporter.start()
        try:
            with open(os.path.join(self.root, FOLDER, "lock"), "w", encoding="ascii") as lock:
                self.wait_for_others(lock)
                os.makedirs(os.path.dirname(lock.name), mode=0o700, exist_ok=True)  # whoever was waited for may have cleaned up
                self.fetch()
                self.clean()
        except OSError as error:
            self.say_failed(self.targets, "NoSpace" if is_full(error) else "Disk", says(error))
        self.ended.set()
        reporter.join()
        missing = [target for target in self.targets if not target.over]
        self.say_failed(missing, self.over or "Unfinished", "not tried any more")
        self.output.say(event="done", done=self.done, total=self.total, moved=self.moved, failed=len(missing))
        return len(missing)

    def wait_for_others(self, lock: IO[str]) -> None:
        """Wait for a fetch that a controller has lost: it ends when it finds nobody to tell. Where there are no locks, hashes must do."""
        until = time.monotonic() + OTHERS_SECONDS
        while time.monotonic() < until:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    return
            time.sleep(0.1)

    def fetch(self) -> None:
        """Fetch what is not there yet."""
        with concurrent.futures.ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(self.look, self.targets))
            waiting = [target for target in self.targets if not target.over]
            if waiting and self.has_room(waiting):
                list(pool.map(self.attempts, self.spans(waiting)))
        for connection in list(self.links.all):
            connection.close()

    def look(self, target: Target) -> None:
        """See what of a file is there."""
        digest = target.kept()
        if digest is not None:
            target.over, target.sha256 = True, digest
            self.count(target.size, 0)
            self.output.say(event="file", id=target.number, sha256=digest, kept=True)
            return
        target.resume()
        self.count(sum(target.extents[number][2] for number in target.have), 0)
        try:
            if not target.extents:
                target.take_whole(b"")
            elif not target.have or not target.advance():
                return
            self.say_whole(target)
        except OtherFile:  # what had arrived was not what its list said: it comes once more
            self.count(-target.size, 0)
            target.resume()
        except Damaged as error:
            self.say_failed([target], "Damaged", str(error))

    def has_room(self, waiting: list[Target]) -> bool:
        """Say beforehand that the disk is too small."""
        status = os.statvfs(self.root)
        room, need = status.f_bavail * status.f_frsize, sum(target.missing_bytes() for target in waiting)
        if room >= need:
            return True
        self.over = "NoSpace"
        self.say_failed(waiting, "NoSpace", f"{need} bytes are to be fetched into {self.root}, {room} are free")
        return False

    def spans(self, waiting: list[Target]) -> Iterator[list[Piece]]:
        """Yield what one request brings: extents of one object that lie side by side."""
        pieces = []
        for target in waiting:
            at = 0
            for number, extent in enumerate(target.extents):
                if number not in target.have:
                    pieces.append((extent[0], extent[1], Piece(target, number, at)))
                at += extent[2]
        pieces.sort(key=lambda one: one[:2])
        span: list[Piece] = []
        source, end = -1, 0
        for number, offset, piece in pieces:
            beside = number == source and 0 <= offset - end <= GAP and offset + piece.length - span[0].offset <= SPAN
            if span and not beside:
                yield span
                span = []
            span.append(piece)
            source, end = number, offset + piece.length
        if span:
            yield span

    def attempts(self, span: list[Piece]) -> None:
        """Fetch a span with retries, each going on where the one before broke off; what is refused for good is not repeated."""
        import http.client

        tries, code, message, refused = 0, "Unfinished", "not tried", False
        while not self.over:
            todo = [piece for piece in span if not piece.done]
            if not todo:
                return
            before = sum(piece.have for piece in span)
            try:
                self.stream(todo)
                continue
            except Over:
                return
            except (OSError, http.client.HTTPException, Damaged, StoreAnswer) as error:
                code, message, again = self.understand(error)
                refused = isinstance(error, StoreAnswer) and not again
            # A place that gives wrong bytes is asked half as often as one that gives none.
            tries = 1 if sum(piece.have for piece in span) > before else tries + (2 if code == "Damaged" else 1)
            if not again or tries >= self.tries:
                break
            self.pause(min(15.0, self.backoff * 2.0**tries) * random.uniform(0.5, 1.0))
        if not self.reached and code == "Network":
            self.over = code  # one that used up its tries without any answer speaks for all
        self.say_failed([piece.target for piece in span if not piece.done], code, message, refused)

    def understand(self, error: Exception) -> tuple[str, str, bool]:
        """Return code and words for what went wrong, and whether to ask again; a disk that takes nothing ends everything."""
        if isinstance(error, Damaged):
            return "Damaged", str(error), True
        if isinstance(error, StoreAnswer):
            passing = error.status >= 500 or error.status in (408, 425, 429)
            return error.code, f"the store answered {error.status} {error.code}", passing
        if isinstance(error, OSError) and error.errno in DISK:
            self.over = "NoSpace" if is_full(error) else "Disk"
            return self.over, says(error), False
        self.links.drop()
        return "Network", type(error).__name__ + ": " + (says(error) if isinstance(error, OSError) else str(error)), True

    def stream(self, todo: list[Piece]) -> None:
        """Read the rest of a span by one request."""
        start, end = todo[0].offset + todo[0].have, todo[-1].offset + todo[-1].length
        view, position = memoryview(bytearray(BLOCK)), start
        with self.open(self.sources[todo[0].target.extents[todo[0].number][0]], start, end) as body:
            for piece in todo:
                while position < piece.offset:  # what lies between is nobody's
                    position += read_into(body, view[: piece.offset - position])
                while piece.have < piece.length:
                    if self.over:
                        raise Over
                    got = read_into(body, view[: piece.length - piece.have])
                    position += got
                    piece.take(view[:got])
                    self.count(got, got)
                self.close(piece)

    def close(self, piece: Piece) -> None:
        """Judge what has come."""
        try:
            if piece.close():
                self.say_whole(piece.target)
        except Damaged:
            self.count(-piece.length, 0)
            raise
        except OtherFile as error:
            piece.done = True
            self.count(-piece.target.size, 0)
            self.say_failed([piece.target], "Damaged", str(error))

    def open(self, source: dict[str, Any], start: int, end: int) -> Body:
        """Ask for a range of an object."""
        if "path" in source:
            return open_mounted(source["path"], start)
        url = source.get("moved") or source["url"]
        for _ in range(REDIRECTS):
            connection, target = self.links.open(url)
            connection.putrequest("GET", target)
            connection.putheader("Range", f"bytes={start}-{end - 1}")
            for name, value in source.get("headers", {}).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            location = response.getheader("Location") if response.status in (301, 302, 303, 307, 308) else None
            if not location:
                break
            self.finish(response)
            url = source["moved"] = absolute(url, location)
        try:
            skip = self.judge(response, start)
        except StoreAnswer:
            source.pop("moved", None)  # where it led may be over
            raise
        body = Body(response, self.links)
        while skip:
            skip -= read_into(body, memoryview(bytearray(min(skip, BLOCK))))
        return body

    def judge(self, response: http.client.HTTPResponse, start: int) -> int:
        """Return how many bytes come before those that were asked for; raises StoreAnswer for any other answer."""
        seen = _RANGE.match(response.getheader("Content-Range") or "")
        if response.status == 206 and seen and int(seen.group(1)) == start:
            self.reached = True
            return 0
        if response.status == 200:
            self.reached = True
            return start
        body = response.read(4096)
        self.links.drop()
        code = _CODE.search(body)
        raise StoreAnswer(response.status, code.group(1).decode("ascii", "replace") if code else str(response.status))

    def finish(self, response: http.client.HTTPResponse) -> None:
        """Read an answer of no use to its end."""
        response.read(65536)
        if response.will_close or response.read(1):
            self.links.drop()

    def clean(self) -> None:
        """Remove what is only needed while something is missing, and what a transfer over SSH that was cut off has left of these files."""
        by_folder: dict[str, set[str]] = {}
        for target in self.targets:
            if target.over:
                folder, name = os.path.split(target.dest)
                by_folder.setdefault(folder, set()).add(f".{name}{SLICES}")
        for folder, cut in by_folder.items():
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    if name[: name.rfind(SLICES) + len(SLICES)] in cut:
                        os.unlink(os.path.join(folder, name))
        if self.last and all(target.over for target in self.targets):
            shutil.rmtree(os.path.join(self.root, FOLDER), ignore_errors=True)

    def say_whole(self, target: Target) -> None:
        """Tell that a file has its name."""
        self.output.say(event="file", id=target.number, sha256=target.sha256, kept=False)

    def say_failed(self, targets: list[Target], code: str, message: str, refused: bool = False) -> None:
        """Tell why files did not arrive, once each; ``refused`` is the store's word that asking again changes nothing."""
        for target in targets:
            with self.lock:
                silent, target.failed = target.failed or target.over, True
            if not silent:
                self.output.say(event="failed", id=target.number, code=code, message=message, refused=refused)

    def count(self, done: int, moved: int) -> None:
        """Count bytes."""
        with self.lock:
            self.done, self.moved = self.done + done, self.moved + moved

    def report(self) -> None:
        """Say twice a second how far we are. Nobody reading means that the controller's link is dead: the next one goes on."""
        try:
            while not self.ended.wait(PROGRESS_SECONDS):
                self.output.say(event="progress", done=self.done, total=self.total)
        except OSError:
            os._exit(3)


class Body:
    """What a range is read from; left before its end, its connection is of no use any more."""

    def __init__(self, stream: Any, links: Links | None) -> None:
        self.stream, self.links = stream, links

    def __enter__(self) -> Body:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.links is None:
            self.stream.close()
        elif kind is not None or self.stream.will_close or self.stream.read(1):
            self.links.drop()


def open_mounted(path: str, start: int) -> Body:
    """Open an object that is a file here."""
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 (the body closes it)
    except FileNotFoundError:
        raise StoreAnswer(404, "NoSuchKey") from None
    file.seek(start)
    return Body(file, None)


def read_into(body: Body, view: memoryview) -> int:
    """Read what comes next; raises ConnectionError at an end that comes too early."""
    got = body.stream.readinto(view)
    if not got:
        raise ConnectionError("cut off")
    return int(got)


def absolute(url: str, moved: str) -> str:
    """Return where a redirection leads; from https only to https."""
    import urllib.parse

    target = urllib.parse.urljoin(url, moved)
    if url.startswith("https:") and not target.startswith("https:"):
        raise StoreAnswer(NO_ANSWER, "redirected away from https")
    return target


def is_full(error: OSError) -> bool:
    """Tell whether a disk has no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def says(error: OSError) -> str:
    """Return the system's words for an error, with the file they are about."""
    return (error.strerror or str(error)) + (": " + str(error.filename) if error.filename else "")


def main() -> int:
    """Carry out the order on stdin; the exit code is 0, or 1 when something did not arrive."""
    return 1 if Fetcher(json.load(sys.stdin), JsonLines(sys.stdout)).run() else 0


if __name__ == "__main__":
    sys.exit(main())
