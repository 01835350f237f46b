"""Which process is it really: identity of a pid, owner of a port. Knows nothing of S3."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path


def start_mark(pid: int) -> str | None:
    """Return what tells this process from a later one with the same pid; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return _start_mark_by_ps(pid) if not Path("/proc/self").exists() else None
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    return f"{fields[19]}/{_boot_id()}"


def end_process(pid: int, mark: str, grace: float) -> None:
    """End exactly this process: SIGTERM, after ``grace`` seconds SIGKILL; returns when it is gone."""
    for sig, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        if start_mark(pid) != mark:
            return
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return
        if wait_until_gone(pid, mark, wait):
            return


def wait_until_gone(pid: int, mark: str, seconds: float) -> bool:
    """Wait until the process is gone; False when it still lives after ``seconds``."""
    until = time.monotonic() + seconds
    pause = 0.002
    while start_mark(pid) == mark:
        if time.monotonic() >= until:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return True


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def port_owner(port: int) -> tuple[int, str] | None:
    """Return pid and command of the process that listens on a loopback port, None where the system does not say."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if any(_link(path) in inodes for path in (folder / "fd").iterdir()):
                return int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return None


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""  # closed meanwhile, as the descriptor that lists the folder is


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_mark_by_ps(pid: int) -> str | None:
    done = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    text = done.stdout.strip()
    return None if done.returncode or not text or text.startswith("Z") else text.partition(" ")[2].strip()
