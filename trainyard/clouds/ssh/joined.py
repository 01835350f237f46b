"""Machines that have joined a server here, as it has written them down: one folder each, with the way there and the leases on it.

A lease is written down before its machine is asked for it. So what may be on one that does not answer is known, and when none of it
can be there any more: every pod is ended by its own machine when its lease is over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trainyard.clock import format_time, parse_time
from trainyard.clouds.marker import parse_name
from trainyard.clouds.protocol import PodInfo
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.settings.hosts import OwnHost
from trainyard.sshlogin import SshLogin

MARGIN = 600.0
"""Seconds behind a lease's end after which nothing of it is there: clocks differ by two minutes at most, and an end takes its time."""
_NEVER = "never"
_CONFIG = """Host {name}
  HostName 127.0.0.1
  HostKeyAlias {name}
  Port {port}
  User trainyard
  IdentityFile "{folder}/key"
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile "{folder}/known_hosts"
  GlobalKnownHostsFile /dev/null
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedMachine:
    """What a joined machine says of itself, as far as a way there needs it."""

    name: str
    host_key: str
    folder: str
    python: str
    labels: Mapping[str, str]


def folder_of(home: Path, name: str) -> Path:
    """Return where a joined machine is written down."""
    return home / "workers" / name


def write_way(home: Path, machine: JoinedMachine, port: int) -> None:
    """Write down how ssh reaches a machine: by a port of this one, with the key that lies in its folder."""
    folder = folder_of(home, machine.name)
    (folder / "leases").mkdir(exist_ok=True)
    for lease in (folder / "leases").iterdir():
        if not may_have(folder, lease.name):
            lease.unlink(missing_ok=True)
    write_atomic(folder / "known_hosts", f"{machine.name} {machine.host_key}\n", durable=False)
    write_atomic(folder / "config", _CONFIG.format(name=machine.name, port=port, folder=folder), durable=False, mode=0o600)
    said = {"folder": machine.folder, "python": machine.python, "labels": dict(machine.labels)}
    write_atomic(folder / "machine.json", json.dumps(said), durable=False)


def set_draining(home: Path, name: str, *, draining: bool) -> None:
    """Let a machine take no new lease, or take some again."""
    if draining and folder_of(home, name).is_dir():
        write_atomic(folder_of(home, name) / "draining", "", durable=False)
    elif not draining:
        (folder_of(home, name) / "draining").unlink(missing_ok=True)


def joined_hosts(home: Path) -> list[OwnHost]:
    """Return the machines that have joined here, by name."""
    return [_host(file.parent) for file in sorted((home / "workers").glob("*/machine.json"))]


def _host(folder: Path) -> OwnHost:
    said = parse_json((folder / "machine.json").read_bytes())
    return OwnHost(
        login=SshLogin(name=folder.name, config=str(folder / "config")), folder=said["folder"], python=said["python"],
        labels=tuple(said["labels"].items()), joined=folder, draining=(folder / "draining").exists(),
    )  # fmt: skip


def note(folder: Path, pod: str, end: datetime | None) -> None:
    """Write a lease down before its machine is asked for it, or for a later end of it."""
    before = _noted(folder, pod)
    if before is None or (before != _NEVER and (end is None or (parse_time(before) or end) < end)):
        write_atomic(folder / "leases" / pod, format_time(end) or _NEVER, durable=True)


def forget(folder: Path, pod: str) -> None:
    """Take a lease back whose machine has said that it has ended it."""
    (folder / "leases" / pod).unlink(missing_ok=True)


def may_have(folder: Path, pod: str) -> bool:
    """Tell whether a pod may be on a machine that does not answer."""
    said = _noted(folder, pod)
    if said is None:
        return False
    end = parse_time(said)
    return end is None or end.timestamp() + MARGIN > time.time()


def leases_until(home: Path, name: str) -> datetime | None:
    """Return the time until which a lease may be on a machine, None for none."""
    folder, far = folder_of(home, name), datetime.max.replace(tzinfo=UTC)
    if not (folder / "leases").is_dir():
        return None
    ends = [parse_time(_noted(folder, file.name)) or far for file in (folder / "leases").iterdir() if may_have(folder, file.name)]
    return max(ends, default=None)


def noted_pods(host: OwnHost) -> list[PodInfo]:
    """Return what may be on a machine that does not answer."""
    if host.joined is None:
        return []
    names = sorted(file.name for file in (host.joined / "leases").iterdir() if not file.name.startswith("."))
    return [_pod(host, name) for name in names if may_have(host.joined, name)]


def _pod(host: OwnHost, name: str) -> PodInfo:
    parts = parse_name(name)
    return PodInfo(
        id=name, name=name, status="unknown", raw_status="its machine does not answer", price_per_hour=host.price, created=None,
        fence_id=parts.fence_id if parts else None, lease_id=parts.lease_id if parts else None,
        end=parse_time(_noted(host.joined, name)) if host.joined else None, region=host.name,
    )  # fmt: skip


def _noted(folder: Path, pod: str) -> str | None:
    try:
        return (folder / "leases" / pod).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
