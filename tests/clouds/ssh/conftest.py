"""A played machine with two GPUs: OpenSSH's server where it is installed, else asyncssh; nothing of it may be left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trainyard.clouds.local import LocalCloud
from trainyard.clouds.local.gpulocks import lock_path
from trainyard.clouds.marker import new_id
from trainyard.clouds.protocol import Offer, PodInfo, PodSpec
from trainyard.clouds.ssh import OwnMachines
from trainyard.rehearsal.kit import GpuFacts
from trainyard.rehearsal.ssh.host import PlayedHost, block, play
from trainyard.remote.keys import host_key, new_ssh_key
from trainyard.remote.transport import Address, SshTransport, connect
from trainyard.settings.hosts import own_hosts

KEY = host_key(b"a seed for the tests' host keys.", "pod")
LOGIN, PUBLIC = new_ssh_key()
GPU = "NVIDIA GeForce RTX 5090"


@dataclass(frozen=True, slots=True)
class Yard:
    """The machine, and the cloud that knows nothing but it."""

    folder: Path
    host: PlayedHost
    cloud: OwnMachines
    config: Path

    def lease(self, name: str = "run", *, gpus: int = 1, minutes: float = 10.0) -> PodInfo:
        """Lease GPUs (0: none) and start a pod."""
        offer = Offer(f"gpu1:{GPU}", "ssh", GPU if gpus else None, gpus, 0.0, "gpu1")
        return self.cloud.create(spec(name, minutes), offer)

    def link(self, pod: PodInfo) -> SshTransport:
        """Log in to a pod."""
        assert pod.ssh is not None
        key = self.folder / "login"
        key.write_text(LOGIN)
        key.chmod(0o600)
        return connect(Address(pod.ssh.host, pod.ssh.port, pod.ssh.user, pod.host_key, key, through=pod.ssh.through))


def spec(name: str = "run", minutes: float = 10.0) -> PodSpec:
    """Return a pod as a run asks for it, without its watchdog."""
    lease = new_id()
    return PodSpec(
        name=f"ty-{new_id()}-{lease}-{name}-0123abcd", fence_id=new_id(), lease_id=lease, stop=None,
        end=datetime.now(UTC) + timedelta(minutes=minutes), env={"TRAINYARD_HOST_KEY": KEY.public}, public_key=PUBLIC,
        host_key=KEY.private_pem,
    )  # fmt: skip


@pytest.fixture(scope="package")
def played() -> Iterator[Yard]:
    """Play the machine once for all tests: a start costs half a second."""
    folder = Path(tempfile.mkdtemp(prefix="tysh"))
    serial = os.urandom(6).hex()
    host = play("gpu1", folder / "a machine", GpuFacts(GPU, 32, 2, serial=serial))
    config = folder / "ssh_config"
    config.write_text(host.ssh_config)
    yield Yard(folder, host, OwnMachines(own_hosts([block(host, config)])), config)
    host.stop()
    shutil.rmtree(folder)
    for lock in Path(lock_path("")).parent.glob(f"gpu-GPU-{serial}-*"):
        lock.unlink()


@pytest.fixture
def yard(played: Yard) -> Iterator[Yard]:
    """Return the machine; at the end its pods are ended, by its own local cloud, and no process or file of them is left."""
    yield played
    there = LocalCloud(played.host.folder / "pods")
    for pod in there.list():
        there.terminate(pod.id)
    assert list((played.host.folder / "pods" / "pods").glob("*")) == []
