"""Start and stop the rehearsal of RunPod."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainyard.clouds.runpod.cloud import REHEARSAL_KEY
from trainyard.errors import Busy, RefusedError
from trainyard.filelock import acquire_now
from trainyard.jsontext import parse_json
from trainyard.rehearsal.runpod.faults import Faults
from trainyard.rehearsal.runpod.fleet import Fleet, Timing
from trainyard.rehearsal.runpod.ledger import CloudLedger, Paid, read_ledger, requests
from trainyard.rehearsal.runpod.machines import Machines
from trainyard.rehearsal.runpod.rest import Rest
from trainyard.rehearsal.runpod.server import Limits, Server

REAL = ("runpod.io", "runpod.ai", "runpod.net")


@dataclass(slots=True)
class Emulator:
    """A running rehearsal. ``key`` is its account key: made up, of no use anywhere else."""

    root: Path
    url: str
    graphql_url: str
    key: str
    fleet: Fleet
    faults: Faults
    _server: Server
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: int | None = None

    @property
    def env(self) -> dict[str, str]:
        """Return the variables that lead a RunPod client here.

        Nothing made here shows late unless a fault says so: a client need not wait as long as it must at the real cloud.
        """
        address = {"RUNPOD_API_KEY": self.key, "RUNPOD_API_URL": self.url, "RUNPOD_GRAPHQL_URL": self.graphql_url}
        return address | {"RUNPOD_SETTLE_SECONDS": "2", "RUNPOD_POST_SECONDS": "20"}

    def ledger(self) -> list[Paid]:
        """Return who was paid from when to when."""
        return read_ledger(self.root)

    def requests(self) -> list[Mapping[str, Any]]:
        """Return every request answered so far."""
        return requests(self.root)

    def add_volume(self, volume_id: str, center: str, *, size: int = 100, name: str | None = None, folder: Path | None = None) -> str:
        """Give the account a network volume of this id in a data center; ``folder`` is what it holds (default: a new one)."""
        ledger = self.fleet.ledger
        entry = {"id": volume_id, "name": name or volume_id, "size": size, "dataCenter": center, "type": "STANDARD"}
        others = [volume for volume in ledger.account().get("volumes", []) if volume["id"] != volume_id]
        ledger.save_account({**ledger.account(), "volumes": [*others, entry]})
        if folder is not None:
            link = self.fleet.machines.volumes / volume_id
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(folder.resolve(), target_is_directory=True)
        return volume_id

    def add_template(self, template_id: str, image: str) -> None:
        """Give the account a pod template of this id."""
        account = self.fleet.ledger.account()
        self.fleet.ledger.save_account({**account, "templates": {**account.get("templates", {}), template_id: {"image": image}}})

    def stop(self, *, end_pods: bool = False) -> None:
        """Stop answering; the pods live on (as at a real cloud whose API is down) unless they are to be ended."""
        self.fleet.stop()
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


def start(
    root: Path,
    *,
    port: int = 0,
    timing: Timing | None = None,
    limits: Mapping[str, int] | None = None,
    envs: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Emulator:
    """Start the rehearsal on a folder of its own; a folder used before goes on where it was, at the same address if free.

    ``envs`` is a folder of ready Python environments, which the pods then see as an image's own.

    Raises RefusedError beside a real base URL, Busy when the folder is in use.
    """
    refuse_beside_the_real(os.environ if env is None else env)
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    lock = _claim(root)
    settings = _settings(root)
    faults = Faults(root)
    ledger = CloudLedger(root)
    limit = Limits({"minute": 60, "hour": 3000, "day": 50000, **(limits or {})})
    machines = Machines(root, "", "", envs)
    fleet = Fleet(ledger, faults, machines, timing or Timing())
    server = _listen(port or settings.get("port", 0), Rest(fleet), settings["key"], limit)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    machines.address, machines.graphql = f"{address}/v2", f"{address}/graphql"
    (root / "rehearsal.json").write_text(json.dumps({**settings, "port": server.server_address[1]}), encoding="utf-8")
    emulator = Emulator(root, f"{address}/v2", f"{address}/graphql", settings["key"], fleet, faults, server, [], lock)
    for name, run in (("fleet", fleet.run), ("server", lambda: server.serve_forever(0.05))):
        thread = threading.Thread(target=run, name=f"rehearsal {name}", daemon=True)
        thread.start()
        emulator._threads.append(thread)
    return emulator


def refuse_beside_the_real(env: Mapping[str, str]) -> None:
    """Raise RefusedError when a base URL in the environment leads to the real RunPod."""
    for name in ("RUNPOD_API_URL", "RUNPOD_GRAPHQL_URL", "RUNPOD_API_BASE_URL"):
        host = urlsplit(env.get(name, "")).hostname or ""
        if any(host == real or host.endswith("." + real) for real in REAL):
            raise RefusedError(f"{name} leads to the real RunPod ({host}): a rehearsal never starts beside it", hint=f"Unset {name}.")


def _claim(root: Path) -> int:
    """Take the folder for the emulator's life."""
    lock = acquire_now(root / "rehearsal.lock")
    if lock is None:
        raise Busy(f"another rehearsal uses {root}")
    return lock


def _settings(root: Path) -> dict[str, Any]:
    path = root / "rehearsal.json"
    if path.exists():
        settings: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        return settings
    return {"key": f"{REHEARSAL_KEY}{secrets.token_hex(16)}"}


def _listen(port: int, rest: Rest, key: str, limits: Limits) -> Server:
    try:
        return Server(port, rest, key, limits)
    except OSError:
        if not port:
            raise
        return Server(0, rest, key, limits)
