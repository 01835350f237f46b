"""From settings to a pod: up of the environment where needed, then up of the run's own stack."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard import yamlfile
from trainyard.clouds import open_cloud
from trainyard.clouds.protocol import Cloud
from trainyard.config import PROJECT, Places
from trainyard.errors import EngineError, RefusedError
from trainyard.provider.intents import is_closed
from trainyard.runs.ledger import Ledger
from trainyard.runs.record import Record, RunFolder
from trainyard.runs.shape import remember_failure
from trainyard.runs.ui import Ui
from trainyard.stacks import facade
from trainyard.stacks.model import Stack
from trainyard.stacks.settings import ensure_stack, salt_of

# What shapes a pod and therefore travels from the environment's settings into each run's own stack.
POD_SETTINGS = (
    "cloud", "gpu", "gpu_count", "image", "template", "disk_gb", "volume", "ports", "regions", "tier", "spot", "max_price",
    "rescue_minutes", "boot_accepted_minutes", "boot_image_minutes", "boot_ssh_minutes", "engine", "registry",
    "pod_env", "min_cuda", "min_vram_gb", "only_offers", "avoid_offers", "image_gb",
)  # fmt: skip


BOOT_TRIES = 3
"""How many pods are tried, each of another offer, before a run gives up."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every verb needs."""

    places: Places
    env: Mapping[str, str]
    ui: Ui

    def stack(self, environment: str) -> Stack:
        """Return an environment's stack."""
        return facade.environment_stack(environment, self.places, self.env)

    def cloud(self, environment: str) -> Cloud:
        """Return the adapter of an environment's cloud."""
        return open_cloud(str(facade.settings_of(environment, self.places).get("cloud", environment)), self.env, self.places)

    def run_stack(self, record: Record, folder: RunFolder) -> Stack:
        """Return the stack of one attempt."""
        return Stack(record.id.stack_name(record.environment), self.places, self.env, folder.config)


def ensure_environment(context: Context, name: str) -> dict[str, Any]:
    """Return the environment's outputs, after an up where settings, program or plugin changed or no fence stands open.

    Raises RefusedError when that up would rent pods (``pods:`` in the settings): the user does that himself.
    """
    stack = context.stack(name)
    stamp = context.places.home / "settings" / f"{name}.sha256"
    wanted = _fingerprint(context.places, stack)
    if stamp.is_file() and stamp.read_text() == wanted and _open_fence(context, stack):
        return facade.outputs(stack)
    if facade.settings_of(name, context.places).get("pods"):
        raise RefusedError(f"stack '{name}' must be brought up first, and its settings ask for pods", hint=f"Run: invoke up --stack {name}")
    with context.ui.stage("up", f"environment {name}"):
        outcome = facade.operate(stack, "up", context.ui.engine_event)
    if not outcome.ok:
        raise EngineError(f"up of stack '{name}' failed: {outcome.reason()}")
    mark_up(context.places, stack)
    return facade.outputs(stack)


def mark_up(places: Places, stack: Stack) -> None:
    """Remember with which settings, program and plugin an environment's last up succeeded."""
    stamp = places.home / "settings" / f"{stack.name}.sha256"
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(_fingerprint(places, stack))


def write_run_settings(
    context: Context, record: Record, folder: RunFolder, outputs: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Write the settings of the attempt's own stack: what shapes its pod, and the environment's outputs, secrets encrypted."""
    environment = context.stack(record.environment)
    config: dict[str, Any] = {key: settings[key] for key in POD_SETTINGS if settings.get(key) is not None}
    config.setdefault("cloud", record.environment)
    config |= {
        "run": str(record.id), "attempt": record.attempt, "hours": record.hours, "fence_id": outputs["fence_id"],
        "ssh_public_key": outputs["ssh_public_key"], "ssh_key_file": outputs["ssh_key_file"],
    }  # fmt: skip
    if record.budget is not None:
        config["budget"] = record.budget
    for key in ("bucket", "store", "endpoint", "region"):
        if outputs.get(key):
            config[f"fence_{key}"] = outputs[key]
    config["host_key_seed"] = {"secure": facade.encrypter(environment).encrypt(str(outputs["host_key_seed"]))}
    document = {"config": {f"{PROJECT}:{key}": value for key, value in config.items()}}
    folder.config.write_text(yamlfile.dump(document), encoding="utf-8")
    # A run's stack takes its environment's salt: one key derivation serves both.
    ensure_stack(context.run_stack(record, folder), salt=salt_of(environment))


def rent(context: Context, record: Record, folder: RunFolder) -> None:
    """Bring up the attempt's stack: lease, pod, endpoint, readiness; fills ``record.pod``.

    A pod that does not boot is replaced by one of the next offer, BOOT_TRIES pods in all. Raises EngineError
    with the provider's words when it fails; what exists by then is in the state.
    """
    stack = context.run_stack(record, folder)
    avoid = _avoided(folder)
    failures: list[str] = []
    for attempt in range(BOOT_TRIES):
        with context.ui.stage("up", "lease and pod"), folder.stage(record, "up"):
            outcome = facade.operate(stack, "up", context.ui.engine_event)
        record.engine = outcome.engine
        if outcome.ok:
            break
        if attempt + 1 < BOOT_TRIES and _is_there_after_all(stack):
            context.ui.warn(f"{outcome.reason()}\nthe pod is there: going on with it")
            continue
        offer = _offer_that_did_not_boot(stack)
        if offer is not None:
            _remember(context, record, offer, outcome.reason())
        if offer is None or offer in avoid or attempt + 1 == BOOT_TRIES:
            raise EngineError("\n".join([f"the pod could not be brought up: {outcome.reason()}", *failures]))
        avoid.append(offer)
        failures.append(f"before that, with {offer}: {outcome.reason()}")
        context.ui.warn(f"{outcome.reason()}\nthe next offer is tried; {offer} is avoided")
        _avoid(folder, avoid)
    found = facade.outputs(stack)
    record.pod = {key: value for key, value in found.items() if key not in ("host_key_seed",)}
    record.phase = "up"
    folder.save(record)


def ensure_key(context: Context, record: Record) -> Path:
    """Return the private key for the run's pod, written again from the environment's state when its file is lost."""
    path = Path(str(record.pod.get("ssh_key_file") or context.places.ssh / record.environment / "id_ed25519"))
    if path.is_file():
        return path
    pem = facade.outputs(context.stack(record.environment)).get("ssh_private_key")
    if not pem:
        raise EngineError(f"the private key {path} is gone and the state of '{record.environment}' does not hold it")
    return _write_key(path, str(pem))


def _is_there_after_all(stack: Stack) -> bool:
    """Tell whether the create was answered unclearly and the pod was found on the list: it is in the state, with that error."""
    return any(r.get("type") == "trainyard:index:Pod" and r.get("initErrors") and not r.get("delete") for r in facade.resources(stack))


def _offer_that_did_not_boot(stack: Stack) -> str | None:
    """Return the offer of a pod that exists without an address, None when something else failed."""
    made = {str(resource.get("type")): resource for resource in facade.resources(stack) if not resource.get("delete")}
    pod = made.get("trainyard:index:Pod")
    if pod is None or "trainyard:index:Endpoint" in made:
        return None
    outputs = pod.get("outputs")
    offer = outputs.get("offer") if isinstance(outputs, dict) else None
    return str(offer) if offer else None


def _remember(context: Context, record: Record, offer: str, reason: str) -> None:
    from trainyard.provider.endpoint import hosts_fault

    if hosts_fault(reason):
        remember_failure(Ledger(context.places.ledger), record.id, context.cloud(record.environment).name, offer, reason)


def _avoided(folder: RunFolder) -> list[str]:
    config = yamlfile.load_map(folder.config)["config"]
    assert isinstance(config, dict)
    found = config.get(f"{PROJECT}:avoid_offers")
    return [str(offer) for offer in found] if isinstance(found, list) else []


def _avoid(folder: RunFolder, offers: list[str]) -> None:
    document = yamlfile.load_map(folder.config)
    config = document["config"]
    assert isinstance(config, dict)
    config[f"{PROJECT}:avoid_offers"] = list(offers)
    folder.config.write_text(yamlfile.dump(document), encoding="utf-8")


def _open_fence(context: Context, stack: Stack) -> bool:
    for resource in facade.resources(stack):
        if resource.get("type") == "trainyard:index:Lease" and not resource.get("delete"):
            outputs = resource.get("outputs")
            fence = outputs.get("fence_id") or outputs.get("fenceId") if isinstance(outputs, dict) else None
            if isinstance(fence, str) and not is_closed(context.places.intents, fence):
                return True
    return False


def _fingerprint(places: Places, stack: Stack) -> str:
    digest = hashlib.sha256()
    files = [stack.settings, places.root / "Pulumi.yaml"]
    for folder in ("infra", "trainyard/provider", "trainyard/clouds", "trainyard/storage"):
        files += sorted(path for path in (places.root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for path in files:
        digest.update(f"{path.relative_to(places.root) if path.is_relative_to(places.root) else path.name}\0".encode())
        digest.update(_content(path))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b"?"


def _write_key(path: Path, pem: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(pem)
    os.replace(draft, path)
    return path
