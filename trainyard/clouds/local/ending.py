"""How a local pod is ended from outside: kill, take off the list, look again, remove (behind the caller, where that takes long).

The order is the half of a protocol whose other half is the supervisor's: it locks, then looks whether its folder
still stands under the name; here the folder is renamed, then the lock is looked at again. One sees the other.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

from trainyard.clouds.local import launch, registry, sandbox
from trainyard.clouds.local.registry import PodRegistry
from trainyard.errors import CloudUnknown
from trainyard.filelock import acquire_now, closing

PATIENCE = 30.0
"""Seconds that a killed process may need; a large memory takes its time."""
SUBREAPER_PATIENCE = 10.0
"""Seconds in which a subreaper must have killed what is below it; it is killed itself then."""
UNSEEN_PASSES = 8
"""Clean scans in turn that prove absence when nothing held the tree together: 2 missed 2 of 50, 8 missed 0 of 30."""


def end_pod(pod_registry: PodRegistry, name: str, reason: str) -> None:
    """End a pod and return when nothing of it runs; one that is gone already, or half gone, is success.

    Many files are removed behind it; where that is broken off, whoever lists the pods next sees to it.
    """
    folder = pod_registry.pod(name)
    if folder.exists():
        kill(folder)
        registry.discard(pod_registry, name)
    for rest in registry.trashed(pod_registry, name):
        finish(pod_registry, rest, reason)


def finish(pod_registry: PodRegistry, folder: Path, reason: str) -> None:
    """Have a folder in the trash removed, after another look for a supervisor that started meanwhile."""
    kill(folder)
    try:
        lock = acquire_now(folder, create=False)
    except FileNotFoundError:
        return
    if lock is None:
        return  # its remover is at work, or who starts it
    with closing(lock):
        if not registry.bury(pod_registry, folder, reason):
            launch.remove_behind(folder, lock)


def kill(folder: Path) -> None:
    """Kill every process of a pod, however it was held together, and wait until they are gone."""
    address = registry.read(folder, "port")
    state = registry.read(folder, "state.json")
    orderly = _kill_holders(folder)
    if state is None or not state.get("marker"):
        return
    # On the first isolation level the kernel kills, and before the port is known nothing of the user's has run.
    unheld = address is not None and registry.isolation_of(address) == "process" and not orderly
    sandbox.kill_marked(int(state["marker"]), UNSEEN_PASSES if unheld else 1)


def signal_holder(path: Path, sign: int) -> int:
    """Send a signal to the holder of a lock; return its pidfd, or -1 when there is no holder any more."""
    for _ in range(100):
        pid = registry.holder(path)
        if pid == 0:
            return -1
        if pid < 0:
            raise CloudUnknown("a local pod is held by a process that this one cannot see", hint=f"Run this where it was made: {path}")
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        # Looked at again with the process pinned: the pid cannot have been reused in between.
        if registry.holder(path) == pid:
            try:
                _send(fd, sign)
            except PermissionError:
                os.close(fd)
                raise CloudUnknown(f"the local pod of process {pid} belongs to another user") from None
            return fd
        os.close(fd)
    raise CloudUnknown(f"the holder of {path} keeps changing")


def _kill_holders(folder: Path) -> bool:
    """Kill supervisor and subreaper; True when what held the tree together was there and has done its work."""
    orderly = False
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        subreaper = signal_holder(folder / "subreaper", signal.SIGTERM)
        if subreaper >= 0:
            # A program of the same user may have stopped it.
            _send(subreaper, signal.SIGCONT)
        supervisor = signal_holder(folder / "alive", signal.SIGKILL)
        if subreaper < 0 and supervisor < 0:
            return orderly
        if supervisor >= 0:
            _wait(supervisor, PATIENCE, folder)
            orderly = orderly or subreaper < 0
        if subreaper >= 0:
            orderly = _retire(subreaper, folder)
    raise CloudUnknown(f"the processes of the local pod {folder.name} do not die")


def _retire(subreaper: int, folder: Path) -> bool:
    if _wait_gone(subreaper, SUBREAPER_PATIENCE):
        os.close(subreaper)
        return True
    _send(subreaper, signal.SIGKILL)
    _wait(subreaper, PATIENCE, folder)
    return False


def _send(pidfd: int, sign: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, sign)


def _wait(pidfd: int, patience: float, folder: Path) -> None:
    try:
        if not _wait_gone(pidfd, patience):
            raise CloudUnknown(f"a process of the local pod {folder.name} does not die", hint="It may hang in the kernel; try again.")
    finally:
        os.close(pidfd)


def _wait_gone(pidfd: int, patience: float) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(patience * 1000))
