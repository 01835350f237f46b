"""Send files where presigned URLs point. Standard library only, Python 3.8 or newer.

Runs ON the pod. Knows no key of any store and no name of any run: it carries out a plan of bound requests, and takes the
sha256 of big files while they are sent.

    a plan on stdin -> JSON lines; exit 0 when every item is stored and every hash taken, else 1
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import hashlib
import os
import random
import re
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

from trainyard.pod.files import Changed, crc32_text, open_file, read_blocks, read_span
from trainyard.pod.links import NO_ANSWER, PASSING, TRIES, Links, code_of
from trainyard.pod.orders import PROGRESS_SECONDS, JsonLines, read_order

if TYPE_CHECKING:
    import http.client

PIECE = 8 << 20
# What stands for a status where the file is not the one that was planned.
OTHER_FILE = 1
_MESSAGE = re.compile(rb"<Message>([^<]{1,300})</Message>")


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
        words = _MESSAGE.search(body)
        return status, {
            "status": status,
            "code": code_of(body, status),
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


def main() -> int:
    """Carry out the plan on stdin; the exit code is 0, or 1 when something was not stored."""
    return 1 if Sender(read_order(), JsonLines(sys.stdout)).run() else 0


if __name__ == "__main__":
    sys.exit(main())
