"""The machines behind an emulator's pods: real local pods with real SSH, the watchdog, and a made-up ``nvidia-smi``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from trainyard.clouds.local import LocalCloud
from trainyard.clouds.protocol import Offer, PodInfo, PodSpec
from trainyard.pod.boot import boot_command, starts_watchdog_itself
from trainyard.rehearsal.kit.cloud import Container, GpuFacts
from trainyard.rehearsal.kit.imageroot import from_image
from trainyard.remote.protocol import with_values
from trainyard.shellscript import load

SAFETY_NET = timedelta(hours=24)
"""Emulated clouds keep no deadline, so none may help a test; but a forgotten emulator must not hold this machine for ever."""
_OFFER = Offer("cpu", "local", None, 0, 0.0)
_OURS = "pod-"
# A cloud's container has no socket of the local cloud, and its SSH server is already there.
_ENTER = "unset TRAINYARD_POD_SOCKET; export TRAINYARD_SSH_READY=1; "


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that runs; ``port`` is None where no SSH port is told."""

    port: int | None
    user: str
    workspace: str


class Machines:
    """Local pods, one for each pod that runs. ``address`` is the emulator's own, for pods that call their cloud."""

    def __init__(self, root: Path, envs: Path | None = None, rootfs: Path | None = None) -> None:
        self.cloud = LocalCloud(root / "machines")
        self.volumes = root / "volumes"
        self.address = ""
        self.rootfs = rootfs
        """Files of the image that every pod is made from; None: a pod shows this machine's."""
        if envs is not None:
            self.cloud.registry.make()
            _link(self.cloud.registry.envs, envs)

    def start(self, container: Container, pod_id: str) -> Machine:
        """Start (or find) the machine of a pod: its variables, keys, command, GPUs."""
        ssh_port = None
        if self.rootfs is not None:
            container, ssh_port = from_image(container, self.rootfs)
        spec = PodSpec(
            name=_OURS + pod_id,
            fence_id="",
            lease_id="",
            stop=None,
            end=datetime.now(UTC) + SAFETY_NET,
            env=container.env,
            public_key=container.public_key,
            host_key=container.host_key or fresh_host_key(),
            boot=_command(container),
            volume=container.volume,
        )
        gpu = {"bin/nvidia-smi": nvidia_smi(container.gpu)} if container.gpu else {}
        files = {**gpu, **container.files}
        info = self.cloud.create(spec, _OFFER, files=files, boot_restart=not container.job, rootfs=self.rootfs)
        ssh = None if container.job else info.ssh
        return Machine((ssh_port or ssh.port) if ssh else None, info.ssh.user if info.ssh else "root", info.workspace)

    def volume(self, volume_id: str) -> Path:
        """Return the folder that plays a network volume."""
        folder = self.volumes / volume_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()

    def put_volume(self, volume_id: str, folder: Path) -> None:
        """Let a folder play a network volume."""
        link = self.volumes / volume_id
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(folder.resolve(), target_is_directory=True)

    def find(self, pod_id: str) -> PodInfo | None:
        """Return the machine of a pod while it lives."""
        return self.cloud.get(_OURS + pod_id)

    def end(self, pod_id: str) -> None:
        """End the machine of a pod; returns when nothing of it runs."""
        self.cloud.terminate(_OURS + pod_id)

    def all(self) -> Iterator[str]:
        """Yield the ids of pods that have a machine."""
        for info in self.cloud.list():
            yield info.name.removeprefix(_OURS)

    def log(self, pod_id: str) -> list[str]:
        """Return the lines that the container has printed."""
        with contextlib.suppress(OSError):
            return b"".join(self.cloud.logs(_OURS + pod_id)).decode(errors="replace").splitlines()
        return []

    def exit_code(self, pod_id: str) -> int | None:
        """Return the exit code of a pod that is a command, None while it runs and for every other pod."""
        return self.cloud.exit_code(_OURS + pod_id)


def image_command(image: str | None, args: str) -> tuple[str, ...]:
    """Return what a container runs: our image's entrypoint, or the start arguments of any other image."""
    if args:
        return ("sh", "-c", f"exec {args}")
    return boot_command(("sleep", "infinity")) if starts_watchdog_itself(image) else ()


def fresh_host_key() -> str:
    """Return a host key as images make it at their first boot."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def moved(value: str, old: str, new: str) -> str:
    """Return a path below one folder as a path below another; any other text as it is.

    A folder of this machine cannot be mounted at another path at every isolation level: variables name the path it has.
    """
    return new + value[len(old) :] if value == old or value.startswith(old + "/") else value


def nvidia_smi(gpu: GpuFacts) -> bytes:
    """Return a program that answers as ``nvidia-smi`` would on the rented GPUs."""
    capability = "12.0" if "50" in gpu.name or "Blackwell" in gpu.name else "9.0" if "H" in gpu.name else "8.9"
    driver = "580.95.05" if gpu.cuda[0] >= 13 else "570.86.15"
    facts = {"name": gpu.name, "memory": int(gpu.memory_gb * 1024), "count": gpu.count, "capability": capability, "serial": gpu.serial}
    program = with_values(load(__package__, "nvidia-smi"), **facts, driver=driver, cuda=f"{gpu.cuda[0]}.{gpu.cuda[1]}")
    return f"#!/bin/sh\n{program}".encode()


def _command(container: Container) -> tuple[str, ...]:
    """Return what the machine's supervisor starts."""
    command = container.job or container.boot
    return ("sh", "-c", _ENTER + 'exec "$@"', "sh", *command) if command else ()


def _link(place: Path, target: Path) -> None:
    """Put the ready environments where local pods find theirs."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        place.rmdir()
    target.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target, target_is_directory=True)
