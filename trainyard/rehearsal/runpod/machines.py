"""The machines behind the rehearsal's pods: real local pods with real SSH, the watchdog, and a made-up ``nvidia-smi``."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from trainyard.clouds.local import LocalCloud
from trainyard.clouds.protocol import Offer, PodInfo, PodSpec
from trainyard.pod.boot import boot_command, starts_watchdog_itself
from trainyard.rehearsal.runpod import stock
from trainyard.remote.protocol import with_values
from trainyard.shellscript import load

SAFETY_NET = timedelta(hours=24)
"""RunPod keeps no deadline, so none may help a test; but a forgotten rehearsal must not hold this machine for ever."""
_OFFER = Offer("cpu", "local", None, 0, 0.0)
# RunPod's container has no socket of the local cloud, and its SSH server is already there.
_ENTER = "unset TRAINYARD_POD_SOCKET; export TRAINYARD_SSH_READY=1; "


class Machines:
    """Local pods, one for each pod that runs."""

    def __init__(self, root: Path, address: str, graphql: str, envs: Path | None = None) -> None:
        self.cloud = LocalCloud(root / "machines")
        self.volumes = root / "volumes"
        self.address, self.graphql = address, graphql
        if envs is not None:
            self.cloud.registry.make()
            _link(self.cloud.registry.envs, envs)

    def start(self, record: Mapping[str, Any]) -> PodInfo:
        """Start (or find) the machine of a pod: its variables, keys, start command, GPUs."""
        container_env: Mapping[str, str] = record["request"].get("env", {})
        spec = PodSpec(
            name=machine_name(record["id"]),
            fence_id="",
            lease_id="",
            stop=None,
            end=datetime.now(UTC) + SAFETY_NET,
            env=self.env(record),
            public_key=container_env.get("PUBLIC_KEY", ""),
            host_key=host_key(container_env),
            boot=boot(record["request"]),
            volume=self._volume_of(record),
        )
        files = {"bin/nvidia-smi": nvidia_smi(record)} if record["request"].get("gpu") else {}
        return self.cloud.create(spec, _OFFER, files=files, boot_restart=True)

    def volume(self, volume_id: str) -> Path:
        """Return the folder that plays a network volume."""
        folder = self.volumes / volume_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()

    def _volume_of(self, record: Mapping[str, Any]) -> str | None:
        return next((str(self.volume(mount["volumeId"])) for mount in _network(record["request"])), None)

    def find(self, pod_id: str) -> PodInfo | None:
        """Return the machine of a pod while it lives."""
        return self.cloud.get(machine_name(pod_id))

    def end(self, pod_id: str) -> None:
        """End the machine of a pod; returns when nothing of it runs."""
        self.cloud.terminate(machine_name(pod_id))

    def all(self) -> Iterator[str]:
        """Yield the ids of pods that have a machine."""
        for info in self.cloud.list():
            yield info.name.removeprefix("rp-")

    def log(self, pod_id: str) -> list[str]:
        """Return the lines that the container has printed."""
        with contextlib.suppress(OSError):
            return b"".join(self.cloud.logs(machine_name(pod_id))).decode(errors="replace").splitlines()
        return []

    def env(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return the container's variables: those of the request, then what RunPod puts into every pod."""
        request = record["request"]
        container_env = {key: value for key, value in request.get("env", {}).items() if key != "SSH_HOST_ED25519_KEY"}
        own = {
            "RUNPOD_POD_ID": record["id"],
            "RUNPOD_POD_HOSTNAME": f"{record['id']}-64411eb2",
            "RUNPOD_DC_ID": record["center"],
            "RUNPOD_GPU_COUNT": str(request.get("gpu", {}).get("count", 0)),
            "RUNPOD_PUBLIC_IP": "127.0.0.1",
            "RUNPOD_API_KEY": record["key"],
        }
        # A folder of this machine cannot be mounted at another path at every isolation level: variables name the path it has.
        for mount in _network(request):
            container_env = {key: _moved(value, mount["path"], str(self.volume(mount["volumeId"]))) for key, value in container_env.items()}
        # The caller's own variables win over the reserved ones nowhere: a fault takes the key away to show what then happens.
        own = {key: value for key, value in own.items() if value}
        return {"RUNPOD_API_URL": self.address, "RUNPOD_GRAPHQL_URL": self.graphql, **container_env, **own}


def _network(request: Mapping[str, Any]) -> list[Mapping[str, str]]:
    networks: list[Mapping[str, str]] = request.get("mounts", {}).get("network", [])
    return networks


def _moved(value: str, old: str, new: str) -> str:
    """Return a path below one folder as a path below another; any other text as it is."""
    return new + value[len(old) :] if value == old or value.startswith(old + "/") else value


def _link(place: Path, target: Path) -> None:
    """Put the ready environments where local pods find theirs."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        place.rmdir()
    target.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target, target_is_directory=True)


def machine_name(pod_id: str) -> str:
    """Return the local name of a pod's machine."""
    return f"rp-{pod_id}"


def boot(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the container runs: our image's entrypoint, or the start arguments of any other image."""
    if request.get("args"):
        return ("sh", "-c", f"{_ENTER}exec {request['args']}")
    if starts_watchdog_itself(request.get("image")):
        return ("sh", "-c", _ENTER + boot_command(("sleep", "infinity"))[2])
    return ()


def host_key(env: Mapping[str, str]) -> str:
    """Return the injected host key, else a fresh one as images make at their first boot."""
    if env.get("SSH_HOST_ED25519_KEY"):
        return base64.b64decode(env["SSH_HOST_ED25519_KEY"]).decode()
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def nvidia_smi(record: Mapping[str, Any]) -> bytes:
    """Return a program that answers as ``nvidia-smi`` would on the rented GPUs."""
    gpu = record["request"]["gpu"]
    kind = stock.gpu(gpu["id"])
    memory = (kind.memory if kind else 24) * 1024
    capability = "12.0" if "50" in gpu["id"] or "Blackwell" in gpu["id"] else "9.0" if "H" in gpu["id"] else "8.9"
    major, minor = stock.cuda(record["center"])
    driver = "580.95.05" if major >= 13 else "570.86.15"
    facts = {"name": gpu["id"], "memory": memory, "count": gpu.get("count", 1), "capability": capability}
    program = with_values(load(__package__, "nvidia-smi"), **facts, driver=driver, cuda=f"{major}.{minor}")
    return f"#!/bin/sh\n{program}".encode()
