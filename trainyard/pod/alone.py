"""Commit what a training left with no controller there. Standard library only, Python 3.8 or newer; runs ON the pod.

It runs in a fork of the pod's watchdog, from a plan that a controller left in the watchdog's memory: signed URLs for one
multipart upload, its Complete, its proof and one marker. Nothing is written to the pod's disk.

One tar (logs/..., result/..., _index.json last) is made while it is sent: each file is read once, hashed on the way, cut into
parts that wait in memory until the store has them with the right MD5. Then Complete, then this program's own proof (HEAD with
the store's ETag; each part read back where that proves nothing; samples read back in any case), then ``_POD_COMMITTED``.
"""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import hmac
import io
import json
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from trainyard.pod.files import Changed
from trainyard.pod.links import TRIES
from trainyard.pod.signed import MIB, Lost, SignedRequests, loads, mac_of
from trainyard.pod.tarball import StreamedTar, TarContents, list_files, part_size

IN_MEMORY = 512 * MIB
"""Bytes of parts that wait in memory, but for a single larger part."""
SAMPLES, SAMPLE = 64, 64 * 1024
SCANS = 5


def commit_alone(order: dict[str, Any], say: Callable[..., None], clock: Callable[[], float] = time.time, pause: Any = time.sleep) -> int:
    """Carry out a plan; what comes of it is said line by line. Returns 0 when the marker is there."""
    wire = SignedRequests(order["deadline"], clock, pause)
    try:
        what = TarCommit(order, say, wire).run()
    except Lost as error:
        say(event="failed", why=str(error))
        return 1
    finally:
        wire.close()
    say(event="committed", what=what)
    return 0


class TarCommit:
    """One commit by a plan."""

    def __init__(self, order: dict[str, Any], say: Callable[..., None], wire: SignedRequests) -> None:
        self.plan: dict[str, Any]
        self.plan, self.secret, self.ending = order["plan"], str(order["secret"]), order["ending"]
        self.pending = order.get("pending")
        self.urls = self.plan["urls"]
        self.say, self.wire = say, wire
        self.lock, self.sent, self.said = threading.Lock(), 0, 0.0

    def run(self) -> str:
        """Return what was done; raises Lost."""
        if self.is_sealed():
            return "a controller had committed it"
        marker = self.wire.ask("GET", self.urls["marker"]["get"])
        if marker.status == 200 and self.is_mine(marker.body):
            return "the marker was there"
        state = self.pending if isinstance(self.pending, dict) and self.is_there(self.pending) else None
        if state is None:
            state = self.send()
        self.prove(state)
        self.put_marker(state)
        return "{} files, {} bytes".format(state["marker"]["files"], state["marker"]["bytes"])

    def is_sealed(self) -> bool:
        """Tell whether the attempt has a result of this run."""
        for url in self.urls["sealed"]:
            answer = self.wire.ask("GET", url)
            if answer.status == 200 and loads(answer.body).get("token") == self.plan["token"]:
                return True
            if answer.status in (401, 403):
                raise Lost(f"the store refuses the plan's URLs: {answer.code}")
        return False

    def is_mine(self, body: bytes) -> bool:
        """Tell whether a marker was made with this plan's secret."""
        said = loads(body)
        return hmac.compare_digest(str(said.pop("mac", "")), mac_of(self.secret, said))

    # -- sending

    def send(self) -> dict[str, Any]:
        """Send a tar of files that stand still; returns what is known of it."""
        without: dict[str, str] = {}
        for attempt in range(SCANS):
            try:
                return self.send_once(without)
            except Unstable as error:
                if attempt + 2 >= SCANS:
                    without.update(dict.fromkeys(error.paths, "still being written when the pod committed it alone"))
                self.wire.pause(min(2.0 * (attempt + 1), max(0.0, self.wire.left() / 4)))
        raise Lost("the output is still being written")

    def send_once(self, without: dict[str, str]) -> dict[str, Any]:
        """Make the tar once; raises Unstable for files that were written to meanwhile."""
        listing, why = self.listing(without)
        tar = StreamedTar(listing, self.plan["part_size"], self.plan["md5"])
        size = part_size(tar.expected(), len(self.urls["parts"]))
        self.sent, parts = 0, PartStream(self, size)
        try:
            for piece in tar.stream():
                parts.add(piece)
        except Changed:
            parts.drop()
            raise Unstable([listing.entries[len(tar.files)].path]) from None
        except BaseException:
            parts.drop()
            raise
        parts.finish()
        changed = self.changed(listing, why is not None, without)
        if changed:
            raise Unstable(changed)
        md5s = parts.tags(1)
        whole = hashlib.md5(b"".join(bytes.fromhex(one) for one in md5s)).hexdigest()
        state = {"size": tar.offset, "part": size, "etags": parts.tags(0), "md5s": md5s, "etag": f"{whole}-{len(md5s)}"}
        state.update(samples=parts.samples(), marker=self.marker(tar, listing, why))
        self.say(event="pending", state=state)
        self.complete(state)
        return state

    def listing(self, without: dict[str, str]) -> tuple[TarContents, str | None]:
        """Return what is to be committed, and why it is no success."""
        code = self.ending["exit_code"]
        if code not in self.plan["exit_codes"] or without:
            return list_files(self.plan, True, without), self.why(without)
        listing = list_files(self.plan, False, without)
        left = [entry["path"] for entry in listing.left_out if entry["path"] not in ("status.json", "metrics.jsonl")]
        if left and not any(entry.name.startswith("result/") for entry in listing.entries):
            return list_files(self.plan, True, without), f"exited {code}, but none of its files is an output"
        return listing, None

    def why(self, without: dict[str, str]) -> str:
        """Return why the training was no success."""
        code, reason = self.ending["exit_code"], self.ending["reason"]
        if code is None:
            return f"has no verdict: {reason}"
        if code in self.plan["exit_codes"]:
            return f"exited {code}, but {len(without)} of its files were still being written"
        return (reason or "told to stop") if code in self.plan["stopped"] else f"exited {code}"

    def changed(self, listing: TarContents, keep: bool, without: dict[str, str]) -> list[str]:
        """Return the files that are not as they were listed any more, new ones too."""
        before = {entry.path: entry.prints for entry in listing.entries if entry.prints is not None}
        after = {entry.path: entry.prints for entry in list_files(self.plan, keep, without).entries if entry.prints is not None}
        return sorted(path for path in set(before) | set(after) if before.get(path) != after.get(path))

    def part(self, number: int, body: Any) -> tuple[str, str]:
        """Send a part until the store says that it has these very bytes; returns ETag and MD5."""
        md5 = hashlib.md5(body)
        headers = {"Content-MD5": base64.b64encode(md5.digest()).decode("ascii")}
        for _ in range(TRIES):
            answer = self.wire.ask("PUT", self.urls["parts"][number - 1], body, headers)
            if answer.status == 200 and answer.etag:
                # Some encrypted stores give another tag: then every part is read back in the end.
                other = "x-amz-server-side-encryption" in answer.headers or not re.fullmatch("[0-9a-f]{32}", answer.etag)
                if answer.etag == md5.hexdigest() or other:
                    self.progress(len(body))
                    return answer.etag, md5.hexdigest()
            elif answer.code == "NoSuchUpload":
                raise Lost("the store knows the upload of the plan no more: a controller that comes back makes another")
            elif answer.status != 200:
                raise Lost(f"the store refuses a part: {answer.status} {answer.code}")
        raise Lost("the store damages what it is sent")

    def progress(self, number: int) -> None:
        """Say now and then how far we are."""
        with self.lock:
            self.sent += number
            now = time.monotonic()
            if now - self.said < 5.0:
                return
            self.said = now
        self.say(event="progress", text=f"{self.sent} bytes sent")

    def complete(self, state: dict[str, Any]) -> None:
        """Make the tar visible. What the store answers proves nothing: only whether it is there counts."""
        parts = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{etag}"</ETag></Part>' for number, etag in enumerate(state["etags"], 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode("ascii")
        code = ""
        for attempt in range(TRIES):
            answer = self.wire.ask("POST", self.urls["complete"], body)
            code = answer.code
            if self.is_there(state):
                return
            if code == "NoSuchUpload":
                raise Lost("the store knows the upload of the plan no more, and does not hold it")
            self.wire.pause(min(5.0 * (attempt + 1), max(0.0, self.wire.left() / 4)))
        raise Lost(f"the store does not complete the upload: {code}")

    # -- proof

    def is_there(self, state: dict[str, Any]) -> bool:
        """Tell whether the store holds an object like the tar."""
        head = self.wire.ask("HEAD", self.urls["head"])
        if head.status in (401, 403):
            raise Lost(f"the store refuses the plan's URLs: {head.status}")
        if head.status != 200 or head.headers.get("content-length") != str(state["size"]):
            return False
        return bool(head.etag == state["etag"] or state["etags"] != state["md5s"])

    def prove(self, state: dict[str, Any]) -> None:
        """Read samples back, and every part where the store's tag proves nothing."""
        self.say(event="progress", text="proving what the store holds")
        wrong = [offset for offset, length, digest in state["samples"] if hashlib.sha256(self.get(offset, length)).hexdigest() != digest]
        if self.wire.ask("HEAD", self.urls["head"]).etag != state["etag"]:
            for number, digest in enumerate(state["md5s"]):
                offset = number * state["part"]
                length = min(state["part"], state["size"] - offset)
                md5 = hashlib.md5()
                for start in range(offset, offset + length, 8 * MIB):
                    md5.update(self.get(start, min(8 * MIB, offset + length - start)))
                if md5.hexdigest() != digest:
                    wrong.append(offset)
        if wrong:
            raise Lost(f"what the store gives back is not what was sent, at byte {wrong[0]}")

    def get(self, offset: int, length: int) -> bytes:
        """Return a range of the tar as the store has it; fewer bytes when it has no more."""
        answer = self.wire.ask("GET", self.urls["get"], headers={"Range": f"bytes={offset}-{offset + length - 1}"}, largest=length)
        return answer.body if answer.status in (200, 206) else b""

    # -- the marker

    def marker(self, tar: StreamedTar, listing: TarContents, why: str | None) -> dict[str, Any]:
        """Return what the marker says, without its proof."""
        results = [entry for entry in tar.files if entry["name"].startswith("result/")]
        return {
            "version": 1,
            "attempt": self.plan["attempt"],
            "token": self.plan["token"],
            "exit_code": self.ending["exit_code"],
            "why": why,
            "checkpoints": listing.checkpoints,
            "files": len(results),
            "bytes": sum(entry["size"] for entry in results),
            "tar": tar.offset,
            "index": tar.index,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.wire.clock())),
        }

    def put_marker(self, state: dict[str, Any]) -> None:
        """Write the marker, and read it back."""
        said = dict(state["marker"], secret=self.secret)
        body = json.dumps(dict(said, mac=mac_of(self.secret, said)), sort_keys=True).encode("utf-8") + b"\n"
        # A marker that was damaged on the way would stay: it can be written once.
        headers = dict(self.urls["marker"]["headers"], **{"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode("ascii")})
        answer = None
        for _ in range(TRIES):
            if self.is_sealed():
                return  # a controller was faster
            answer = self.wire.ask("PUT", self.urls["marker"]["put"], body, headers)
            if self.wire.ask("GET", self.urls["marker"]["get"]).body == body:
                return
        raise Lost(f"the marker cannot be written: {answer.code if answer else ''}")


class Unstable(Exception):
    """Files that were written to while they were read."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(", ".join(paths[:5]))
        self.paths = paths


class PartStream:
    """Bytes cut into parts, sent by threads while the next are read; no more of them wait than memory is set aside for."""

    def __init__(self, commit: TarCommit, size: int) -> None:
        self.commit, self.size = commit, size
        threads = max(1, min(8, IN_MEMORY // size))
        self.pool = concurrent.futures.ThreadPoolExecutor(threads)
        self.room = threading.Semaphore(threads)
        self.buffer = io.BytesIO()
        self.futures: list[concurrent.futures.Future[tuple[str, str]]] = []
        self.chosen: list[tuple[int, int, str]] = []

    def add(self, piece: bytes) -> None:
        """Take bytes."""
        view = memoryview(piece)
        while view:
            step = min(len(view), self.size - self.buffer.tell())
            self.buffer.write(view[:step])
            view = view[step:]
            if self.buffer.tell() == self.size:
                self.cut()

    def cut(self) -> None:
        """Send what has been gathered, when there is room; raises what an earlier part has failed with."""
        body = self.buffer.getvalue()
        self.buffer = io.BytesIO()
        self.room.acquire()
        for future in self.futures:
            if future.done():
                future.result()
        number = len(self.futures) + 1
        self.sample((number - 1) * self.size, body)
        self.futures.append(self.pool.submit(self.one, number, body))

    def one(self, number: int, body: bytes) -> tuple[str, str]:
        """Send one part."""
        try:
            return self.commit.part(number, body)
        finally:
            self.room.release()

    def sample(self, start: int, body: bytes) -> None:
        """Remember a piece of a part; of many parts those that chance keeps."""
        length = min(SAMPLE, len(body))
        at = random.randrange(len(body) - length + 1)
        self.chosen.append((start + at, length, hashlib.sha256(body[at : at + length]).hexdigest()))

    def finish(self) -> None:
        """Send the rest and wait for all."""
        if self.buffer.tell() or not self.futures:
            self.cut()
        self.pool.shutdown(wait=True)
        for future in self.futures:
            future.result()

    def drop(self) -> None:
        """Give up; what is on its way is waited for."""
        for future in self.futures:
            future.cancel()
        self.pool.shutdown(wait=True)

    def tags(self, which: int) -> list[str]:
        """Return of each part the store's tag (0) or the MD5 (1)."""
        return [future.result()[which] for future in self.futures]

    def samples(self) -> list[tuple[int, int, str]]:
        """Return some of the remembered pieces, the first and the last among them."""
        inner = self.chosen[1:-1]
        return [self.chosen[0], *random.sample(inner, min(len(inner), SAMPLES)), self.chosen[-1]]
