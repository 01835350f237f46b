"""What rented machines need that are no containers: cloud-init's user data made from a PodSpec, and the account's SSH keys.

Such a machine boots an operating system, not an image of ours. Its user data bring the host key, the public key that may log
in, the variables of a login and, at each boot, the watchdog, as root: the job's user cannot end it. Where a cloud wants the
login key registered in its account, a key is registered for each pod and named by its lease, so that whoever has the account's
key knows which are ours and when they are of no more use.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from trainyard.clouds.marker import HOST_KEY_MARK, compact_time, marker_env, parse_compact_time, parse_name
from trainyard.clouds.protocol import PodSpec, SshAddress
from trainyard.clouds.values import public_half, text
from trainyard.errors import CloudRefused, CloudUnknown
from trainyard.pod.endings import ending_env
from trainyard.shellscript import load

WORKSPACE = "/workspace"
"""Of a machine whose disk is all its own."""
LARGEST_USER_DATA = 1_000_000
"""Bytes; the least that any of these clouds takes."""
_LOGIN = re.compile(r"(?:^|\s)([A-Za-z_][\w.-]*)@([^\s@:]+)(?=\s|$)")
_PORT = re.compile(r"(?:^|\s)-p\s*(\d{1,5})(?=\s|$)")
_KEY_NAME = re.compile(r"^ty-([0-9a-f]{10})-([0-9a-f]{10})-([0-9a-f]{8})-([0-9a-z]{6})$")


@dataclass(frozen=True, slots=True)
class AccountKey:
    """One SSH key that an account holds."""

    id: str
    name: str
    public_key: str

    @property
    def end(self) -> datetime | None:
        """When the lease ends that a key of ours is of; None for any other."""
        match = _KEY_NAME.match(self.name)
        return parse_compact_time(match[4]) if match else None

    @property
    def ours(self) -> bool:
        """Its name is one that only we make."""
        return _KEY_NAME.match(self.name) is not None


@runtime_checkable
class KeepsKeys(Protocol):
    """A cloud whose account holds the SSH keys that may log in."""

    def ssh_keys(self) -> list[AccountKey]:
        """Return every SSH key of the account. Raises CloudError rather than a partial list."""
        ...

    def add_ssh_key(self, name: str, public_key: str) -> AccountKey:
        """Register a key. Raises CloudRefused where the cloud refuses it, CloudUnknown where nobody knows."""
        ...

    def remove_ssh_key(self, key_id: str) -> None:
        """Remove a key; one that is already gone is success."""
        ...


def key_name(spec: PodSpec) -> str:
    """Return what the key of a pod is called: the same at each try."""
    return f"ty-{spec.fence_id}-{spec.lease_id}-{_short(spec.name)}-{compact_time(spec.end)}"


def register(cloud: KeepsKeys, spec: PodSpec) -> AccountKey:
    """Return the account's key with which a pod is made: a person's own where it is the same key, else one of ours, registered once.

    Raises CloudRefused for whatever goes wrong: no pod was asked for yet.
    """
    name = key_name(spec)
    try:
        same = [key for key in cloud.ssh_keys() if _material(key.public_key) == _material(spec.public_key)]
        if chosen := next((key for key in same if key.name == name or not key.ours), None):
            return chosen
        try:
            return cloud.add_ssh_key(name, spec.public_key)
        except CloudRefused:
            if not same:
                raise
            return same[0]  # such a cloud keeps each key once: another pod of this stack has brought it
        except CloudUnknown:
            if added := next((key for key in cloud.ssh_keys() if key.name == name), None):
                return added
            raise
    except CloudUnknown as error:
        raise CloudRefused(f"no pod was asked for: its SSH key could not be registered ({error.message})", hint=error.hint) from None


def forget(cloud: KeepsKeys, pod_name: str) -> None:
    """Remove the keys that were registered for one pod."""
    parts = parse_name(pod_name)
    for key in cloud.ssh_keys() if parts is not None else []:
        match = _KEY_NAME.match(key.name)
        if match and parts is not None and match.groups()[:3] == (parts.fence_id, parts.lease_id, _short(pod_name)):
            cloud.remove_ssh_key(key.id)


def stale(keys: Sequence[AccountKey], now: datetime) -> list[AccountKey]:
    """Return the keys of ours whose leases are over; one of a lease that runs may be about to be used, whoever is seen."""
    return [key for key in keys if key.end is not None and key.end <= now]


def user_data(spec: PodSpec) -> str:
    """Return cloud-init's user data: the same for the same spec. JSON is YAML, and quotes everything.

    Raises CloudRefused for a variable that no login can have, and for what is too long.
    """
    config: dict[str, object] = {"ssh_authorized_keys": [spec.public_key]} if spec.public_key else {}
    if spec.host_key:
        config["ssh_keys"] = {"ed25519_private": spec.host_key, "ed25519_public": public_half(spec.host_key)}
    config["write_files"] = [{"path": "/etc/environment", "append": True, "content": _environment(spec)}]
    config["bootcmd"] = [["sh", "-c", start_script(spec)]]  # at each boot, before anybody can log in
    data = "#cloud-config\n" + json.dumps(config, sort_keys=True) + "\n"
    if len(data.encode()) > LARGEST_USER_DATA:
        raise CloudRefused(f"this pod's user data have {len(data.encode()):,} bytes, {LARGEST_USER_DATA:,} are the most; nothing was sent")
    return data


def start_script(spec: PodSpec) -> str:
    """Return the lines of sh that make the workspace and start the watchdog there, with what it has to know and nothing else.

    They are carried out as root, with another folder than /workspace as their argument where the workspace is one.
    """
    # Such clouds give no key to a machine: its watchdog is told that there is no way, whatever else it may find there.
    env = ending_env(()) | {name: value for name, value in spec.env.items() if name.startswith("TRAINYARD_")}
    env |= marker_env(spec.fence_id, spec.lease_id, spec.stop, spec.end)
    words = [f"{name}={value}" for name, value in sorted(env.items())]
    return f"{load(__package__, 'start_machine')}{shlex.join([*words, *spec.boot])}\n"


def ssh_address(connection: object) -> SshAddress | None:
    """Return where sshd answers: of a text, of the first text in a list; None, ``[null]`` and what has no login tell nothing yet."""
    line = next((one for one in (connection if isinstance(connection, list) else [connection]) if text(one)), "")
    login, port = _LOGIN.search(str(line)), _PORT.search(str(line))
    return SshAddress(login[2], int(port[1]) if port else 22, login[1]) if login else None


def refuse_containers(cloud: str, spec: PodSpec) -> None:
    """Raise CloudRefused for what only a container can have."""
    for name, value in (("image", spec.image), ("registry", spec.registry)):
        if value:
            raise CloudRefused(
                f"{cloud} rents machines, not containers: it has no '{name}'; a recipe's packages are installed on the machine"
            )
    if set(spec.ports) - {"22/tcp"}:
        raise CloudRefused(f"{cloud} opens no ports for one pod; only 22/tcp is reached. Others go through 'ssh -L'")


def host_key_mark(spec: PodSpec) -> str:
    """Return the public host key that a pod's marks tell, empty where it has none of ours."""
    return spec.env.get(HOST_KEY_MARK) or (public_half(spec.host_key) if spec.host_key else "")


def _environment(spec: PodSpec) -> str:
    """Return lines for /etc/environment, of which each login has its variables; quotes around a value are taken off, nothing else."""
    env = {"WORKSPACE": WORKSPACE, **{k: v for k, v in spec.env.items() if not k.startswith("TRAINYARD_")}}
    for name, value in env.items():
        if set("\n\0") & set(value):
            raise CloudRefused(f"environment variable '{name}': a login of this machine can have no line ends in it; nothing was sent")
    return "".join(f'{name}="{value}"\n' for name, value in sorted(env.items()))


def _short(pod_name: str) -> str:
    return hashlib.sha256(pod_name.encode()).hexdigest()[:8]


def _material(public_key: str) -> list[str]:
    """Return kind and bits of a key; what stands behind them is a comment."""
    return public_key.split()[:2]
