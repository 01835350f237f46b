"""How much memory a local pod may use, and who keeps it: the kernel where a cgroup can be made, else the supervisor.

Root can make one, an ordinary user only where a part of the tree is his (systemd's user session). The supervisor
itself stays outside: what is killed is the pod's program, never what keeps the pod's end. Runs inside the
supervisor, so it knows nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainyard.clouds.local import sandbox
else:
    try:
        import sandbox
    except ImportError:
        from trainyard.clouds.local import sandbox

CGROUPS = "/sys/fs/cgroup"
FIRST_TO_DIE = "500"
"""oom_score_adj of a pod's programs: where the whole machine is full, they go before what is not a pod's."""
LOOK = 1.0
"""Seconds between two looks of a supervisor that keeps the limit by itself."""


class Memory:
    """The memory of one pod. ``kept`` says by whom its limit is kept: ``cgroup``, ``supervisor`` or nobody."""

    def __init__(self, spec: dict[str, Any], pod_fd: int) -> None:
        self.limit: int = spec.get("memory") or 0
        self.marker, self.pod_fd, self.door = str(spec["marker"]), pod_fd, -1
        self.kept = "supervisor" if self.limit else ""
        if self.limit:
            with contextlib.suppress(OSError):
                self.door = os.open(make(_name(spec), self.limit) + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
                self.kept = "cgroup"

    def enter(self) -> None:
        """Put the calling process, which is about to become a program of the pod, under the limit."""
        with contextlib.suppress(OSError):
            if self.door >= 0:
                os.write(self.door, b"0")
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write(FIRST_TO_DIE)

    def wait(self) -> float:
        """Return the seconds until look() has something to do."""
        return LOOK if self.kept == "supervisor" else 3600.0

    def look(self) -> None:
        """Kill the largest program of a pod that is over its limit, and count it in the pod's ``oom``."""
        if self.kept != "supervisor":
            return
        used = {pid: _resident(pid) for pid in sandbox.marked(self.marker)}
        # What programs share counts once for each above, so the exact sum is taken only when that is too much.
        if sum(used.values()) <= self.limit or sum(map(_proportional, used)) <= self.limit:
            return
        with contextlib.suppress(OSError):
            fd = os.open("pod/oom", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644, dir_fd=self.pod_fd)
            with open(fd, "wb", buffering=0) as file:
                file.write(b"killed\n")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(max(used, key=used.__getitem__), signal.SIGKILL)


def make(name: str, limit: int) -> str:
    """Make a cgroup with a limit; return its folder. Raises OSError where this user may not."""
    refusal: OSError = FileNotFoundError(2, "no memory cgroup is mounted here")
    for parent, most, swap in _places():
        folder = f"{parent}/{name}"
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
            _write(f"{folder}/{most}", limit)
            with contextlib.suppress(OSError):
                _write(f"{folder}/{swap}", 0 if most == "memory.max" else limit)
            return folder
        except OSError as error:
            refusal = error
            _remove(folder)
    raise refusal


def remove(spec: dict[str, Any]) -> None:
    """Remove the pod's cgroup, whoever made it; all that was in it is dead."""
    if spec.get("memory") and spec.get("marker"):
        for parent, _, _ in _places():
            _remove(f"{parent}/{_name(spec)}")


def explain(limit: int | None) -> str:
    """Say which limit holds here and who keeps it."""
    if not limit:
        return "no limit of its own (TRAINYARD_LOCAL_MEMORY, in GB); on a full machine the pod's largest program dies first"
    size = f"{limit / 1e9:g} GB a pod"
    try:
        _remove(make(f"trainyard-probe-{os.getpid()}", limit))
    except OSError as error:
        return f"{size}, kept by the supervisor's look each second ({CGROUPS}: {error.strerror})"
    return f"{size}, kept by the kernel (cgroup)"


def _places() -> Iterator[tuple[str, str, str]]:
    """Yield where a cgroup may be made, with the names of its limits of memory and swap."""
    unified = "memory" in _read(f"{CGROUPS}/cgroup.controllers").split()
    if unified and os.getuid() == 0:
        yield CGROUPS, "memory.max", "memory.swap.max"
    elif unified:
        own = _read("/proc/self/cgroup").partition("0::")[2].partition("\n")[0]
        session, user_service, _ = own.partition(f"user@{os.getuid()}.service")
        if user_service:
            yield f"{CGROUPS}{session}{user_service}", "memory.max", "memory.swap.max"
    if os.path.isdir(f"{CGROUPS}/memory"):
        yield f"{CGROUPS}/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


def _name(spec: dict[str, Any]) -> str:
    return f"trainyard-{spec['marker']:x}"


def _remove(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _resident(pid: int) -> int:
    words = _read(f"/proc/{pid}/statm").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if len(words) > 1 else 0


def _proportional(pid: int) -> int:
    words = _read(f"/proc/{pid}/smaps_rollup").partition("\nPss:")[2].split()
    return int(words[0]) * 1024 if words else 0


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, value: int) -> None:
    # Without O_CREAT: a folder of another kind must not look like a cgroup that took the limit.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)
