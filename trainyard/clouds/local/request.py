"""What a pod of this machine is made from: a create request, checked against what the machine can do."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainyard.clouds.local import gpulocks, hardware, launch
from trainyard.clouds.local.registry import PodRegistry
from trainyard.clouds.marker import marker_env
from trainyard.clouds.protocol import Offer, PodSpec
from trainyard.clouds.volume import volume_env
from trainyard.errors import CloudRefused, UserError
from trainyard.pod.boot import pod_keys
from trainyard.processes import boot_id

ISOLATION_LEVELS = ("namespace", "process")
NICE = 5
"""So that a pod never starves the controller beside it."""
TICK = 5.0
"""Longest time (s) between two looks of a supervisor at the clocks and at its pod's record."""


def state_of(pods: PodRegistry, spec: PodSpec, offer: Offer, *, boot_restart: bool, rootfs: Path | None = None) -> dict[str, Any]:
    """Return what a pod's ``state.json`` holds; raises CloudRefused for what no pod of this machine can be."""
    pods.pod(spec.name)
    _refuse(spec)
    sshd, asyncssh = launch.find_sshd(), launch.asyncssh_server()
    if not sshd and not asyncssh:
        raise CloudRefused("there is no SSH server for local pods", hint="Install openssh-server, or asyncssh into this Python.")
    volume = os.path.realpath(spec.volume) if spec.volume is not None else None
    env = {**marker_env(spec.fence_id, spec.lease_id, spec.stop, spec.end), "TRAINYARD_ENVS": str(pods.envs), **spec.env}
    env = {**volume_env(volume), **env} if volume else env
    tools = [os.path.dirname(tool) for tool in [shutil.which("nvidia-smi")] if tool and offer.gpu]
    return {
        "name": spec.name,
        "fence_id": spec.fence_id,
        "lease_id": spec.lease_id,
        "created": time.time(),
        "boot_id": boot_id(),
        **times(spec.stop, spec.end),
        "price": offer.price_per_hour,
        "gpu": offer.gpu,
        "gpu_count": offer.gpu_count if offer.gpu else 0,
        "region": offer.region,
        "host_key": spec.env.get("TRAINYARD_HOST_KEY") or _public(spec.host_key),
        "user": gpulocks.login_name(),
        "marker": 2**62 + secrets.randbits(60),
        "env": env,
        "keys": list(pod_keys(env)),
        "boot": list(spec.boot),
        "boot_restart": boot_restart,
        "isolation": forced_isolation(),
        "nice": NICE,
        "memory": hardware.memory(),
        "tick": TICK,
        "mask": str(pods.root),
        "binds": [str(pods.envs), *launch.needed_folders(pods.envs), *tools, *([str(rootfs)] if rootfs else [])],
        "volume": volume,
        "path": [os.path.dirname(os.path.realpath(sys.executable)), *tools],
        "sshd": sshd,
        "asyncssh": asyncssh,
    }


def _refuse(spec: PodSpec) -> None:
    """Raise CloudRefused for a request that this machine cannot keep."""
    if sys.platform != "linux":
        raise CloudRefused("local pods need Linux; rent one elsewhere, or run this on a Linux machine")
    if spec.end is not None and spec.end <= datetime.now(UTC):
        raise CloudRefused(f"the end of {spec.name} is in the past")
    for key, value in spec.env.items():
        if not key or set("=\n\0") & set(key) or set("\n\0") & set(value):
            raise CloudRefused(f"environment variable '{key}': line ends and NUL are not possible on a local pod")
    if spec.volume is not None and not os.path.isdir(spec.volume):
        raise CloudRefused(f"volume '{spec.volume}' is no folder of this machine", hint="A local pod's volume is a folder's path.")


def content_of(spec: PodSpec, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files that are laid out for a pod before it starts, by their path below its folder."""
    content = {
        "pod/etc/host_key": spec.host_key.rstrip("\n").encode() + b"\n",
        "pod/etc/authorized_keys": spec.public_key.rstrip("\n").encode() + b"\n",
        # A login shell's /etc/profile sets PATH anew.
        "home/.profile": b'PATH="$(dirname "$TRAINYARD_POD_SOCKET")/bin:$PATH"\n[ -f ~/.bashrc ] && . ~/.bashrc\n:\n',
    }
    for path, data in files.items():
        top, *rest = Path(path).parts
        if top not in ("home", "workspace", "bin") or not rest or ".." in rest:
            raise UserError(f"'{path}': a file of a local pod lies under home/, workspace/ or bin/")
        content["pod/" + path if top == "bin" else path] = data
    return content


def times(stop: datetime | None, end: datetime | None) -> dict[str, float | None]:
    """Return stop and end as a pod's state holds them, in epoch seconds and by the clock since boot."""
    last = end.timestamp() if end else None
    # Both clocks are kept: a wall clock set back must not lengthen a lease, and boot time counts suspend.
    # The wall is read first: held up in between, the lease is not cut short, and the wall keeps it exactly.
    by_boot = last - time.time() + time.clock_gettime(time.CLOCK_BOOTTIME) if last is not None else None
    return {"stop": stop.timestamp() if stop else None, "end": last, "end_boottime": by_boot}


def _public(private_pem: str) -> str:
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(private_pem.encode(), password=None)
    except ValueError as error:
        raise CloudRefused(f"the host key of the pod is no OpenSSH private key: {error}") from None
    form = serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, form).decode()


def forced_isolation() -> str:
    """Return the isolation level that the environment forces, empty for none; raises UserError for an unknown one."""
    isolation = os.environ.get("TRAINYARD_LOCAL_ISOLATION", "")
    if isolation and isolation not in ISOLATION_LEVELS:
        raise UserError(f"TRAINYARD_LOCAL_ISOLATION: '{isolation}' is none of {', '.join(ISOLATION_LEVELS)}")
    return isolation
