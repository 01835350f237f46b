"""A real Slurm of two nodes, both on this machine, with a login node behind a real SSH server; each test has its own view of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.remote import sshd
from tests.servers import slurm
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import OfferQuery, PodInfo, PodSpec
from trainyard.clouds.slurm import SlurmCloud
from trainyard.clouds.slurm.login import REHEARSAL, SSH_COMMAND
from trainyard.config import places
from trainyard.pod.boot import boot_command
from trainyard.rehearsal.slurm.cluster import ClusterSize, SlurmCluster, login_environment
from trainyard.remote.transport import Address, Transport, dial
from trainyard.retries import Backoff


@dataclass(slots=True)
class Clustered:
    """The adapter of a cluster, and short ways to what tests ask of both."""

    cluster: SlurmCluster
    folder: Path
    ssh: str
    env: dict[str, str] = field(default_factory=dict)
    fence: str = field(default_factory=new_id)

    def cloud(self, ssh: str | None = None) -> SlurmCloud:
        """Return the adapter; ``ssh``: another program that leads to the login node."""
        here = places(self.folder, {"TRAINYARD_HOME": str(self.folder / ".trainyard"), "HOME": str(self.folder)})
        return SlurmCloud({**os.environ, SSH_COMMAND: ssh or self.ssh}, here, {REHEARSAL: None})

    def options(self, **more: str) -> dict[str, str]:
        """Return what a stack's settings would say."""
        return {"login": REHEARSAL, "workspace": str(self.folder / "jobs"), "queue_hours": "1", **more}

    def spec(self, *, minutes: float = 10, rescue: float = 2, **options: str) -> PodSpec:
        """Return a pod with a lease of its own."""
        lease, now = new_id(), datetime.now(UTC)
        stop = now + timedelta(hours=1, minutes=minutes)
        name = str(PodName(self.fence, lease, "pod", "0123abcd"))
        return PodSpec(
            name=name, fence_id=self.fence, lease_id=lease, stop=stop, end=stop + timedelta(minutes=rescue), boot=boot_command(),
            env={"TRAINYARD_LEASE_ID": lease}, options=self.options(**options),
        )  # fmt: skip

    def create(self, spec: PodSpec, cloud: SlurmCloud | None = None) -> PodInfo:
        """Ask for a pod without GPU."""
        cloud = cloud or self.cloud()
        return cloud.create(spec, cloud.offers(OfferQuery(options=spec.options))[0])

    def pods(self) -> list[PodInfo]:
        """Return this test's pods as the cluster lists them."""
        return [pod for pod in self.cloud().list() if pod.fence_id == self.fence]

    def wait(self, pod_id: str, status: str, seconds: float = 40) -> PodInfo | None:
        """Wait until the pod has a status ("gone": is not there), and return it."""
        cloud, info = self.cloud(), None
        for pause in Backoff(0.05, 0.3).pauses():
            info = cloud.get(pod_id)
            if (info.status if info else "gone") == status:
                return info
            seconds -= pause
            assert seconds > 0, f"{pod_id} is {info and info.raw_status}: {self.cluster.run('squeue', '-t', 'all')}"
            self.pause(pause)
        raise AssertionError

    def pause(self, seconds: float) -> None:
        """Let the cluster work."""
        import time

        time.sleep(seconds)

    def enter(self, info: PodInfo) -> Transport:
        """Return the way into a pod that runs."""
        assert info.ssh is not None
        return dial(Address(info.ssh.host, command=info.ssh.command))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    size = ClusterSize(nodes=2, more=("MessageTimeout=2",))
    with slurm.serve_or_skip(tmp_path_factory.mktemp("slurm"), size) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ssh(cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the words that stand for ssh: the real one, to the tests' SSH server, whose sessions are those of a login node."""
    folder = tmp_path_factory.mktemp("login")
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in login_environment(cluster).items())
    server = sshd.start(folder, forced=f'env {variables} sh -c "$SSH_ORIGINAL_COMMAND"')
    address = server.address
    (folder / "known").write_text(f"[127.0.0.1]:{address.port} {address.host_key}\n")
    (folder / "ssh_config").write_text(
        f"Host {REHEARSAL}\n  HostName 127.0.0.1\n  Port {address.port}\n  User {address.user}\n  IdentityFile {address.key_file}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n  GlobalKnownHostsFile /dev/null\n  LogLevel ERROR\n"
    )
    yield f"ssh -F {folder}/ssh_config -o ControlMaster=no -o ControlPath=none"
    server.stop()


@pytest.fixture
def slurmed(cluster: SlurmCluster, ssh: str, tmp_path: Path) -> Iterator[Clustered]:
    world = Clustered(cluster, tmp_path, ssh)
    yield world
    for pod in world.pods():
        world.cloud().terminate(pod.id)
