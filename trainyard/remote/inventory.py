"""From a stack's outputs to hosts: who can be reached, how, and with which variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import UserError
from trainyard.remote.protocol import Address

_NOT_VARIABLES = {"ssh_private_key", "host_key_seed", "pods", "host_key", "ssh_public_key", "ssh_key_file", "login_command", "through"}


@dataclass(frozen=True, slots=True)
class InventoryHost:
    """One pod that a playbook can run on."""

    name: str
    address: Address
    vars: Mapping[str, object] = field(default_factory=dict)


def targets(outputs: Mapping[str, object], *, key_file: Path | None = None) -> list[InventoryHost]:
    """Return the pods of a run's stack (its own outputs) or of an environment's (its ``pods``), in order.

    ``key_file`` is used where the outputs name none. Raises UserError when the outputs are not those of a stack of ours.
    """
    own = outputs.get("ssh_key_file")
    key = Path(own).expanduser() if isinstance(own, str) and own else key_file
    pods = outputs.get("pods")
    entries = pods if isinstance(pods, Sequence) and not isinstance(pods, str) else [outputs] if "host" in outputs else []
    hosts = [_target(entry, key) for entry in entries]
    names = [target.name for target in hosts]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two pods of the stack are called '{name}'")
    return hosts


def _target(entry: object, key: Path | None) -> InventoryHost:
    if not isinstance(entry, Mapping):
        raise UserError(f"the stack's outputs hold no pod but {entry!r}"[:200])
    name = str(entry.get("pod_name") or entry.get("pod_id") or entry.get("host") or "pod")
    if not entry.get("host") or not entry.get("port"):
        raise UserError(f"the pod '{name}' has no SSH address: its cloud gives none, or it has not booted")
    port, user = int(float(str(entry["port"]))), str(entry.get("user") or "root")
    command = entry.get("login_command")
    words = tuple(map(str, command)) if isinstance(command, Sequence) and not isinstance(command, str) else ()
    address = Address(str(entry["host"]), port, user, _text(entry.get("host_key")), key, words, _text(entry.get("through")))
    return InventoryHost(name, address, {str(key): value for key, value in entry.items() if key not in _NOT_VARIABLES})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
