"""Locks on a stack, in the CLI's format: one writer, and only a lock whose owner is proven dead is removed.

The CLI writes ``{pid, username, hostname, timestamp}``. Ours add what proves a death: the boot id, the pid
namespace and the start time of the process (the CLI ignores unknown fields). A lock of another host is
never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trainyard.engine.document import parse_json
from trainyard.engine.hook import Busy, EngineError, exact_time, write_atomic

LOCKED_EXIT = 255  # as the CLI exited until 3.259


class Locked(Busy):
    """Another process holds the stack."""

    exit_code = LOCKED_EXIT


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock file and what it says of its owner."""

    path: Path
    pid: int
    username: str
    hostname: str
    timestamp: str
    boot_id: str = ""
    namespace: str = ""
    started: str = ""

    def __str__(self) -> str:
        return f"{self.path}: created by {self.username}@{self.hostname} (pid {self.pid}) at {self.timestamp}"


def folder(root: Path, project: str, stack: str) -> Path:
    """Return where the locks of a stack are."""
    return root / "locks" / "organization" / project / stack


def find(root: Path, project: str, stack: str) -> list[Lock]:
    """Return the locks on a stack; one that cannot be read counts as held by nobody known."""
    result = []
    for path in sorted(folder(root, project, stack).glob("*.json")):
        lock = _read(path)
        if lock is not None:
            result.append(lock)
    return result


@contextlib.contextmanager
def hold_lock(root: Path, project: str, stack: str, say: Callable[[str], None] = lambda text: None) -> Iterator[Path]:
    """Hold the stack; raises Locked when a living (or unprovable) owner has it. ``say`` hears of removed dead locks."""
    path = acquire(root, project, stack, say)
    try:
        yield path
    finally:
        release(path)


def acquire(root: Path, project: str, stack: str, say: Callable[[str], None] = lambda text: None) -> Path:
    """Write our lock file and return its path; see held()."""
    try:
        return _acquire(root, project, stack, say)
    except OSError as error:
        raise EngineError(f"the stack cannot be locked in {root.parent}: {error.strerror}") from None


def _acquire(root: Path, project: str, stack: str, say: Callable[[str], None]) -> Path:
    where = folder(root, project, stack)
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"{uuid.uuid4()}.json"
    with _guard(root, project, stack):
        remove_dead(root, project, stack, say)
        _refuse_others(root, project, stack, None)
        write_atomic(path, json.dumps(_own_content()), durable=False)
        try:  # the CLI does not know our guard: list again, as it does
            _refuse_others(root, project, stack, path)
        except Locked:
            release(path)
            raise
    return path


def release(path: Path) -> None:
    """Remove our lock file."""
    path.unlink(missing_ok=True)


def remove_dead(root: Path, project: str, stack: str, say: Callable[[str], None]) -> list[Lock]:
    """Remove the locks whose owners are proven dead, exactly those files, and return them. Call it under the guard or as ``cancel``."""
    removed = []
    for lock in find(root, project, stack):
        proof = proof_of_death(lock)
        if proof:
            lock.path.unlink(missing_ok=True)
            lock.path.with_name(lock.path.name + ".attrs").unlink(missing_ok=True)
            say(f"removed the lock of {lock.username}@{lock.hostname} (pid {lock.pid}, {lock.timestamp}): {proof}")
            removed.append(lock)
    return removed


def cancel(root: Path, project: str, stack: str, say: Callable[[str], None]) -> list[Lock]:
    """Remove dead locks and return those that stay, with a living owner or one that cannot be proven dead."""
    with _guard(root, project, stack):
        remove_dead(root, project, stack, say)
        return find(root, project, stack)


def proof_of_death(lock: Lock) -> str:
    """Return why the owner of a lock is certainly gone, an empty text when that is not certain."""
    if lock.hostname != socket.gethostname() or lock.pid <= 0:
        return ""
    if lock.boot_id and lock.boot_id != _boot_id():
        return "this machine was started again since"
    if lock.namespace and lock.namespace != _namespace():
        return ""  # another container of this machine: its pids mean nothing here
    if not lock.boot_id and _before_boot(lock.timestamp):
        return "this machine was started again since"
    state, started = _process(lock.pid)
    if state in ("", "Z", "X"):
        return "its process is gone"
    if lock.started and started != lock.started:
        return "its process is gone (the pid belongs to a younger one)"
    return ""


def _refuse_others(root: Path, project: str, stack: str, own: Path | None) -> None:
    others = [lock for lock in find(root, project, stack) if lock.path != own]
    if others:
        lines = "\n".join(f"  {lock}" for lock in others)
        raise Locked(
            f"the stack is currently locked by {len(others)} lock(s). Wait for the other process(es) to end.\n{lines}",
            hint="The lock of a dead process of this machine goes by itself; that of another machine must be removed there.",
        )


@contextlib.contextmanager
def _guard(root: Path, project: str, stack: str) -> Iterator[None]:
    """Let one engine of this machine at a time judge the locks of a stack."""
    place = root / "trainyard" / project
    place.mkdir(parents=True, exist_ok=True)
    with open(place / f"{stack}.flock", "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> Lock | None:
    try:
        data = parse_json(path.read_bytes())
        pid = int(data.get("pid", 0))
        texts = [str(data.get(key, "")) for key in ("username", "hostname", "timestamp", "bootId", "pidNamespace", "processStart")]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError):
        return Lock(path, 0, "?", "?", "?")
    return Lock(path, pid, *texts)


def _own_content() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "username": getpass.getuser(),
        "hostname": socket.gethostname(),
        "timestamp": exact_time(),
        "bootId": _boot_id(),
        "pidNamespace": _namespace(),
        "processStart": _process(os.getpid())[1],
    }


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str]:
    """Return state letter and start time (clock ticks since boot) of a process, empty texts when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return "", ""
    except OSError:
        return "?", ""
    return fields[0], fields[19]


def _before_boot(timestamp: str) -> bool:
    try:
        line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        written = datetime.fromisoformat(_micro(timestamp))
    except (OSError, StopIteration, ValueError):
        return False
    return written.timestamp() < int(line.split()[1]) - 60  # a minute for clocks that were set


def _micro(timestamp: str) -> str:
    """Cut the nanoseconds of Go's times to what datetime reads."""
    head, dot, rest = timestamp.partition(".")
    if not dot:
        return timestamp
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}"
