"""The registry of the local cloud: one folder a pod, and the kernel's word on which of them lives.

Files say what was wanted; the lock on ``alive`` says what is. No pid files: F_GETLK names the holder, and a lock
neither survives its process nor passes to a child.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.clouds.local import gpulocks, limits, sandbox
from trainyard.errors import CloudRefused
from trainyard.filelock import acquire
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")
STALE_CLAIM = 60.0
"""Age (s) at which a folder that never became a pod is swept."""
REMOVAL = 1.0
"""Seconds that the end of a pod waits for its files to be removed; what is left then is removed behind it."""
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux
_FOLDERS = ("home", "workspace", "tmp", "root", "pod/bin", "pod/etc")


@dataclass(frozen=True, slots=True)
class PodRegistry:
    """Where pods, their ends and what is being removed are kept."""

    root: Path

    @property
    def pods(self) -> Path:
        """One folder a pod."""
        return self.root / "pods"

    @property
    def trash(self) -> Path:
        """Folders on their way out, ``NAME~RANDOM``."""
        return self.root / "trash"

    @property
    def ended(self) -> Path:
        """``NAME.json``: when and why a pod ended."""
        return self.root / "ended"

    @property
    def envs(self) -> Path:
        """Ready Python environments, shown read-only to every pod."""
        return self.root / "envs"

    def make(self) -> None:
        """Make the folders; only their owner may look."""
        for folder in (self.pods, self.trash, self.ended, self.envs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def pod(self, name: str) -> Path:
        """Return a pod's folder; refuses what is no name, so that no path leads elsewhere."""
        if not NAME.match(name):
            raise CloudRefused(f"'{name}' is no name for a local pod: use letters, digits, '.', '_' and '-'")
        return self.pods / name


def claim(pod_registry: PodRegistry, state: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
    """Make the pod's folder, complete or not at all, by one rename; False when the name is taken.

    Raises CloudRefused when the disk refuses: nothing has run, nothing is left.
    """
    name = state["name"]
    fresh = pod_registry.pods / f".new-{name}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        fresh.mkdir(mode=0o700)
        for folder in _FOLDERS:
            (fresh / folder).mkdir(parents=True)
        (fresh / "tmp").chmod(0o1777)
        # The locks lie ready, so that a disk that fills up later cannot keep the pod from being held or changed.
        locks = {"alive": b"", "subreaper": b"", "record.lock": b""}
        for path, data in {**files, **locks, "state.json": json.dumps(dict(state)).encode()}.items():
            _write(fresh / path, data)
        os.rename(fresh, pod_registry.pod(name))
    except OSError as error:
        sandbox.remove_tree(str(fresh))
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise CloudRefused(f"the local pod could not be written: {error.strerror}", hint=f"Folder: {pod_registry.root}") from error
    return True


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """Return one of the pod's JSON files, None when it is absent (or damaged)."""
    try:
        value = parse_json((folder / name).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def isolation_of(address: Mapping[str, Any]) -> str:
    """Return the isolation level of a pod that answers; one that an older version made calls it by that version's name."""
    return str(address.get("isolation") or address.get("rung") or "unknown")


def change(folder: Path, **values: Any) -> bool:
    """Change values of the pod's record in one step; False when the pod is gone."""
    with _locked(folder) as held:
        state = read(folder, "state.json") if held else None
        if state is None:
            return False
        try:
            # Not for after a reboot: that ends the pod.
            write_atomic(folder / "state.json", json.dumps({**state, **values}), durable=False, mode=0o600)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CloudRefused(f"the record of the local pod could not be changed: {error.strerror}") from error
    return True


def holder(path: Path) -> int:
    """Return the pid that holds a lock, 0 if none does, -1 for one that this process cannot see."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    if kind == fcntl.F_UNLCK:
        return 0
    return pid if pid > 0 else -1


def names(pod_registry: PodRegistry) -> list[str]:
    """Return the names of all pods in the registry, alive or not."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(entry for entry in os.listdir(pod_registry.pods) if NAME.match(entry))
    return []


def trashed(pod_registry: PodRegistry, name: str | None = None) -> list[Path]:
    """Return the folders on their way out, of one pod or of all."""
    with contextlib.suppress(FileNotFoundError):
        entries = (entry for entry in os.listdir(pod_registry.trash) if name is None or entry.rpartition("~")[0] == name)
        return [pod_registry.trash / entry for entry in sorted(entries)]
    return []


def discard(pod_registry: PodRegistry, name: str) -> Path | None:
    """Take the pod off the list; None when somebody else just did."""
    target = pod_registry.trash / f"{name}~{secrets.token_hex(6)}"
    try:
        os.rename(pod_registry.pod(name), target)
    except FileNotFoundError:
        return None
    return target


def bury(pod_registry: PodRegistry, folder: Path, reason: str) -> bool:
    """Keep the record of a pod's end and remove its folder; every process of it is dead already.

    False when the record is kept, and the files need longer than somebody who waits for the pod's end should wait.
    """
    name = folder.name.rpartition("~")[0]
    written = False
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder / "ended.json", pod_registry.ended / f"{name}.json")
        written = True
    state = read(folder, "state.json")
    limits.remove(state or {})
    for path in (state or {}).get("gpu_locks", ()):
        gpulocks.clear(path, name)
    kept = ("name", "fence_id", "lease_id", "created", "stop", "end", "price", "boot_id")
    record = {**{key: (state or {}).get(key) for key in kept}, "ended": time.time(), "reason": reason}
    earlier = read(pod_registry.ended, f"{name}.json")
    if state is not None and earlier is not None and earlier.get("created") == state.get("created"):
        written = True  # The supervisor has kept it and was about to remove its folder: its reason is the true one.
    if not written and state is not None:
        written = _keep(pod_registry, name, record)
    if written or state is None:
        for known in ("state.json", "port"):  # nothing is left to be killed or noted: whoever goes on only removes
            (folder / known).unlink(missing_ok=True)
        return sandbox.remove_tree(str(folder), until=time.monotonic() + REMOVAL)
    sandbox.remove_tree(str(folder))
    # On a full disk there is room for the record now.
    if not _keep(pod_registry, name, record):
        raise CloudRefused(f"{name} is gone, but the record of its end could not be written to {pod_registry.ended}")
    return True


def size_of(folder: Path) -> int:
    """Return the bytes that a folder takes from the disk, while others may be removing it."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(path, name)).st_blocks * 512
    return size


def sweep_claims(pod_registry: PodRegistry) -> None:
    """Remove folders whose creator died before they became pods."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(pod_registry.pods):
            with contextlib.suppress(FileNotFoundError):
                if entry.name.startswith(".new-") and time.time() - entry.stat().st_mtime > STALE_CLAIM:
                    sandbox.remove_tree(entry.path)


def _keep(pod_registry: PodRegistry, name: str, record: dict[str, Any]) -> bool:
    try:
        write_atomic(pod_registry.ended / f"{name}.json", json.dumps(record), durable=False)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _locked(folder: Path) -> Any:
    """Serialise writers of the record; yields False when the pod is gone."""
    try:
        fd = acquire(folder / "record.lock")
    except FileNotFoundError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(fd)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    runnable = path.parent.name == "bin" or data.startswith(b"#!")
    private = path.name in ("state.json", "host_key")
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o755 if runnable else 0o600 if private else 0o644)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
