"""The pod's directory as its supervisor holds it: the record, the locks, the way out of the list.

Runs inside the supervisor, so it knows nothing but the standard library. The other side of the same files is
``registry``: what the record says may be changed from there, what the locks say is decided here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainyard.clouds.local import gpulocks, limits, sandbox
else:
    import gpulocks
    import limits
    import sandbox


class Stop(Exception):
    """This supervisor is not to serve: ``taken``, ``gone``, ``dead``, or an error in words."""


class LocalPod:
    """The pod's directory, opened before any change of root, and what its record says."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = os.path.basename(path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self.root_fd = os.open("/", flags)
        self.fd = os.open(path, flags)
        self.base_fd = os.open(os.path.dirname(os.path.dirname(path)), flags)
        self.log_fd = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        self.spec: dict[str, Any] = {}
        self.stamp = (0, 0)
        self.gpus: list[int] = []
        self.locks: list[int] = []
        self.read()

    def read(self) -> None:
        """Read the record again when it was changed; a damaged one changes nothing."""
        for gpu in self.gpus:
            gpulocks.keep(gpu)
        with contextlib.suppress(OSError, ValueError):
            fd = os.open("state.json", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
            with open(fd, "rb") as file:
                status = os.fstat(fd)
                if (status.st_ino, status.st_mtime_ns) != self.stamp:
                    self.spec = json.loads(file.read())
                    self.stamp = (status.st_ino, status.st_mtime_ns)
                    for gpu in self.gpus:
                        gpulocks.write(gpu, self._lease())

    def is_recorded(self) -> bool:
        """Tell whether this very directory still stands under the pod's name."""
        try:
            status = os.stat(self.path.lstrip("/"), dir_fd=self.root_fd)
        except OSError:
            return False
        return os.path.samestat(status, os.fstat(self.fd))

    def left(self) -> float:
        """Return the seconds until the end by the clock that is ahead: the wall, or boot time (suspend counts)."""
        end = self.spec.get("end")
        if end is None:
            return float("inf")
        return float(min(end - time.time(), self.spec["end_boottime"] - time.clock_gettime(time.CLOCK_BOOTTIME)))

    def lock(self, name: str) -> None:
        """Take the lock that says this pod lives, then look whether it was removed meanwhile (terminate does the reverse)."""
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Stop("taken") from None
        self.locks.append(fd)
        if not self.is_recorded():
            raise Stop("gone")
        if os.access("port", os.F_OK, dir_fd=self.fd) and name == "alive":
            raise Stop("dead")

    def take_gpus(self) -> None:
        """Take the locks of the pod's GPUs: they are held as long as this process lives, or one that it forks. Raises OSError."""
        for path in self.spec.get("gpu_locks", ()):
            self.gpus.append(gpulocks.take(path, self._lease()))

    def let_go(self) -> None:
        """Drop every lock, for another isolation level to take: a process that is about to end would hold them a moment too long."""
        for fd in (*self.gpus, *self.locks):
            os.close(fd)
        self.gpus, self.locks = [], []

    def _lease(self) -> dict[str, Any]:
        return {"pod": self.name, **{key: self.spec.get(key) for key in ("user", "stop", "end", "marker")}}

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a file so that it is whole or absent, on a full disk too. Not for after a reboot: that ends the pod."""
        data, fresh = json.dumps(value).encode(), name + ".new"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        try:
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            os.close(fd)
        os.rename(fresh, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove(self, reason: str) -> None:
        """Take the pod out of the list, keep the record of its end, remove its files. Everything in it is dead already."""
        spec = self.spec
        limits.remove(spec)
        for gpu in self.gpus:
            gpulocks.write(gpu, None)
        kept = {key: spec.get(key) for key in ("name", "fence_id", "lease_id", "created", "stop", "end", "price", "boot_id")}
        with contextlib.suppress(OSError):
            self.write("ended.json", {**kept, "ended": time.time(), "reason": reason})
        if not self.is_recorded():
            return
        trash = f"trash/{self.name}~{os.urandom(6).hex()}"
        try:
            os.rename(f"pods/{self.name}", trash, src_dir_fd=self.base_fd, dst_dir_fd=self.base_fd)
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{trash}/ended.json", f"ended/{self.name}.json", src_dir_fd=self.base_fd, dst_dir_fd=self.base_fd)
        except FileNotFoundError:
            return
        sandbox.remove_tree(trash, dir_fd=self.base_fd)
