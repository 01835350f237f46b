"""Fetch files onto a pod: ranges of objects, by presigned URLs or out of a mounted bucket. Standard library only, Python 3.8 or newer.

Runs ON the pod. Knows no key of any store and no name of any run.

    an order on stdin -> JSON lines; exit 0 when every file lies there, else 1
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import os
import random
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

from trainyard.pod.links import TRIES, Links, code_of
from trainyard.pod.orders import PROGRESS_SECONDS, JsonLines, read_order
from trainyard.pod.ranges import Body, StoreAnswer, absolute, open_mounted, read_into
from trainyard.pod.targets import FOLDER, Damaged, OtherFile, Piece, Target

if TYPE_CHECKING:
    import http.client

# Between the name of a file and a part of its hash: what of it has come over SSH so far (remote/upload.py).
SLICES = ".slices-"
BLOCK = 1 << 20
# Bytes of one request; between what it is asked for it may hold so many that nobody wants.
SPAN, GAP = 32 << 20, 256 * 1024
OTHERS_SECONDS = 60
REDIRECTS = 5
# What no other try mends: the disk is full, or something lies where a file must be.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/")


class Over(Exception):
    """What ended everything has been told."""


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
        raise StoreAnswer(response.status, code_of(body, response.status))

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


def is_full(error: OSError) -> bool:
    """Tell whether a disk has no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def says(error: OSError) -> str:
    """Return the system's words for an error, with the file they are about."""
    return (error.strerror or str(error)) + (": " + str(error.filename) if error.filename else "")


def main() -> int:
    """Carry out the order on stdin; the exit code is 0, or 1 when something did not arrive."""
    return 1 if Fetcher(read_order(), JsonLines(sys.stdout)).run() else 0


if __name__ == "__main__":
    sys.exit(main())
