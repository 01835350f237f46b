"""One lock a GPU, for all users of a machine: whose it is, and until when.

The lock is the kernel's, on a file in memory that nobody removes: it goes with the processes that hold it, whatever ended
them, and a reboot leaves none. What stands in the file says to everybody who holds it; the text alone means nothing. Runs
inside the supervisor as well, so it knows nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainyard.clouds.local import sandbox
else:
    try:
        import sandbox
    except ImportError:
        from trainyard.clouds.local import sandbox

PLACES = ("/run/lock", "/tmp")
"""Where the locks may lie: the first in which every user may make files. What has another one (a container) does not see who
holds a GPU. Not /dev/shm: systemd removes a user's files there when the user logs out."""
NAME = "trainyard-gpus"
PATIENCE = 20.0
"""Seconds that somebody may take to choose GPUs and start the pod that has them."""
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux; locks of an open file, so that a pod's two guardians hold one together
_LONGEST = 4096


class GpuTaken(OSError):
    """Another pod holds the GPU."""


def lock_path(gpu: str) -> str:
    """Return the file of a GPU, by its UUID or what else names it on this machine."""
    place = next((place for place in PLACES if _is_for_all(place)), PLACES[-1])
    return os.path.join(place, NAME, "gpu-" + gpu)


def keep(fd: int) -> None:
    """Say that a lock is still in use: old files of /tmp are removed."""
    with contextlib.suppress(OSError):
        os.utime(fd)


def login_name() -> str:
    """Return the name of the user who runs this, or the number where it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def take(path: str, record: dict[str, Any]) -> int:
    """Take a lock and say whose it is; return the descriptor that holds it. Raises GpuTaken, or another OSError."""
    fd = _open(path)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0))
    except OSError as error:
        os.close(fd)
        raise GpuTaken(error.errno, f"{os.path.basename(path)} is held by another pod") from None
    write(fd, record)
    return fd


def write(fd: int, record: dict[str, Any] | None) -> None:
    """Say in a lock's file who holds it; None: nobody. What cannot be written is not said, and the lock holds all the same."""
    with contextlib.suppress(OSError):
        data = json.dumps(record).encode() if record else b""
        os.ftruncate(fd, 0)
        os.pwrite(fd, data, 0)


def holder(path: str) -> dict[str, Any] | None:
    """Return what is said of the pod that has a GPU (nothing, where it said nothing); None for a GPU that is free.

    A pod whose guardians were killed has it as long as any program of the pod lives: everybody can see that.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError:
        return {}  # another user is making it
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
        free = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] == fcntl.F_UNLCK
        said = _read(fd)
    finally:
        os.close(fd)
    marker = said.get("marker")
    if free and not (isinstance(marker, int) and marker > 2**62 and any(sandbox.marked(str(marker)))):
        return None
    return said


def clear(path: str, pod: str) -> None:
    """Take a dead pod's words out of a lock's file, so that nobody looks for its programs any more."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0))
            if _read(fd).get("pod") == pod:
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)


@contextlib.contextmanager
def choosing() -> Iterator[None]:
    """Be the only one on the machine who chooses GPUs while the block lasts. Raises TimeoutError when another goes on for too long."""
    fd = _open(os.path.join(os.path.dirname(lock_path("")), "choosing"))
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError("another process has been choosing GPUs for too long") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _is_for_all(folder: str) -> bool:
    try:
        return os.stat(folder).st_mode & 0o1777 == 0o1777
    except OSError:
        return False


def _open(path: str) -> int:
    """Open a file that every user of the machine may lock; it is made where it is not there, with its folder."""
    folder = os.path.dirname(path)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o1777)
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    for attempt in range(20):
        # Apart: where the folder is sticky, O_CREAT on another user's file is refused (fs.protected_regular).
        try:
            return os.open(path, flags)
        except PermissionError:
            if attempt == 19:
                raise
            time.sleep(0.01)  # another user is making it
        except FileNotFoundError:
            pass
        with contextlib.suppress(FileExistsError, PermissionError):
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            os.fchmod(fd, 0o666)
            return fd
    raise FileNotFoundError(2, "it comes and goes", path)


def _read(fd: int) -> dict[str, Any]:
    try:
        said = json.loads(os.pread(fd, _LONGEST, 0) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
