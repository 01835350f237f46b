"""Start and stop an emulator."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainyard.clouds.rehearsal import rehearsal_key
from trainyard.config import Places
from trainyard.errors import Busy, RefusedError, TrainyardError
from trainyard.filelock import acquire_now
from trainyard.jsontext import parse_json
from trainyard.rehearsal.kit.cloud import EmulatedCloud, Front
from trainyard.rehearsal.kit.faults import Faults
from trainyard.rehearsal.kit.fleet import Fleet, Timing
from trainyard.rehearsal.kit.ledger import CloudLedger, Paid, read_ledger, requests
from trainyard.rehearsal.kit.limits import Limits
from trainyard.rehearsal.kit.machines import Machines
from trainyard.rehearsal.kit.server import Server
from trainyard.settings.table import StackSettings


@dataclass(slots=True)
class Emulator:
    """A running emulator. ``key`` is its account key: made up, of no use anywhere else."""

    cloud: EmulatedCloud
    root: Path
    address: str
    """Where it listens, without a path."""
    key: str
    fleet: Fleet
    faults: Faults
    _server: Server
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: int | None = None
    _front: Front | None = None

    @property
    def url(self) -> str:
        """The address that a client is told."""
        return self.address + self.cloud.base

    @property
    def env(self) -> dict[str, str]:
        """Return the variables that lead a client here."""
        return dict(self.cloud.client_env(self.address, self.key))

    def ledger(self) -> list[Paid]:
        """Return who was paid from when to when."""
        return read_ledger(self.root)

    def requests(self) -> list[Mapping[str, Any]]:
        """Return every request answered so far."""
        return requests(self.root)

    def stop(self, *, end_pods: bool = False) -> None:
        """Stop answering; the pods live on (as at a real cloud whose API is down) unless they are to be ended."""
        self.fleet.stop()
        if self._front is not None:
            self._front.close()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(timeout=30)
        if end_pods:
            for record in self.fleet.all():
                self.fleet.delete(record["id"], "end of the rehearsal")
            for pod_id in list(self.fleet.machines.all()):
                self.fleet.machines.end(pod_id)
        if self._lock is not None:
            os.close(self._lock)


@dataclass(slots=True)
class Furnishing:
    """What a cloud may give to a rehearsal of a stack beside pods (see ``EmulatedCloud.furnish``)."""

    emulator: Emulator
    settings: StackSettings
    env: Mapping[str, str]
    """The environment of the real run."""
    places: Places
    """The rehearsal's own: its local S3 server is there."""
    variables: dict[str, str] = field(default_factory=dict)
    """To be added to the environment of its verbs."""
    store: Mapping[str, str] = field(default_factory=dict)
    """Settings of a store of the cloud's; empty: the results go to the local S3 server."""


def start(
    cloud: EmulatedCloud,
    root: Path,
    *,
    port: int = 0,
    timing: Timing | None = None,
    limits: Mapping[str, int] | None = None,
    latency: float = 0.0,
    envs: Path | None = None,
    rootfs: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Emulator:
    """Start a cloud's emulator on a folder of its own; a folder used before goes on where it was, at the same address if free.

    ``limits`` are other numbers for the account's windows, ``latency`` the seconds before every answer. ``envs`` is a
    folder of ready Python environments, which the pods then see as an image's own; ``rootfs`` are the files of an image, whose
    entrypoint they then run.

    Raises RefusedError beside a real address, Busy when the folder is in use.
    """
    refuse_beside_the_real(cloud, os.environ if env is None else env)
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    lock = _claim(root)
    settings = _settings(root, cloud)
    faults, machines = Faults(root, cloud.faults), Machines(root, envs, rootfs)
    fleet = Fleet(cloud, CloudLedger(root), faults, machines, timing or Timing())
    windows = [replace(window, most=(limits or {}).get(window.name, window.most)) for window in cloud.limits]
    server = _listen(port or settings.get("port", 0), fleet, settings["key"], Limits(windows), latency)
    machines.address = f"http://127.0.0.1:{server.server_address[1]}"
    front = _open_front(fleet, settings.get("front", 0), server, lock)
    ports = {"port": server.server_address[1]} | ({"front": front.port} if front else {})
    (root / "rehearsal.json").write_text(json.dumps({**settings, **ports}), encoding="utf-8")
    emulator = Emulator(cloud, root, (front or machines).address, settings["key"], fleet, faults, server, [], lock, front)
    for name, run in (("fleet", fleet.run), ("server", lambda: server.serve_forever(0.05))):
        thread = threading.Thread(target=run, name=f"rehearsal {name}", daemon=True)
        thread.start()
        emulator._threads.append(thread)
    return emulator


def _open_front(fleet: Fleet, port: int, server: Server, lock: int) -> Front | None:
    """Start what clients ask instead of the server, where the cloud has one; what it lacks leaves nothing open."""
    try:
        return fleet.cloud.front(fleet, fleet.machines.address, port) if fleet.cloud.front else None
    except TrainyardError:
        server.server_close()
        os.close(lock)
        raise


def refuse_beside_the_real(cloud: EmulatedCloud, env: Mapping[str, str]) -> None:
    """Raise RefusedError when an address in the environment leads to the real cloud."""
    for name in cloud.addresses:
        host = urlsplit(env.get(name, "")).hostname or ""
        if any(host == real or host.endswith("." + real) for real in cloud.real):
            text = f"{name} leads to the real {cloud.title} ({host}): a rehearsal never starts beside it"
            raise RefusedError(text, hint=f"Unset {name}.")


def _claim(root: Path) -> int:
    """Take the folder for the emulator's life."""
    lock = acquire_now(root / "rehearsal.lock")
    if lock is None:
        raise Busy(f"another rehearsal uses {root}")
    return lock


def _settings(root: Path, cloud: EmulatedCloud) -> dict[str, Any]:
    path = root / "rehearsal.json"
    if path.exists():
        settings: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        return settings
    return {"key": rehearsal_key(cloud.key_prefix, secrets.token_hex(16))}


def _listen(port: int, fleet: Fleet, key: str, limits: Limits, latency: float) -> Server:
    try:
        return Server(port, fleet, key, limits, latency)
    except OSError:
        if not port:
            raise
        return Server(0, fleet, key, limits, latency)
