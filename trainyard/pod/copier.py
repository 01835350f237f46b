"""Copy files into a bucket that is mounted on the pod. Standard library only, Python 3.8 or newer; runs ON the pod.

files and where to copy them, on stdin -> JSON lines like the uploader's; exit 0 when every file lies there, else 1
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import sys
import threading
import time
from typing import Any

from trainyard.pod.files import BLOCK, Changed, hash_file, open_file, read_blocks
from trainyard.pod.orders import PROGRESS_SECONDS, JsonLines, read_order


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


def main() -> int:
    """Carry out the order on stdin; the exit code is 0, or 1 when something was not stored."""
    return 1 if Copier(read_order(), JsonLines(sys.stdout)).run() else 0


if __name__ == "__main__":
    sys.exit(main())
