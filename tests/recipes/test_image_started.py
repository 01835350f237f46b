"""A trainer image built, pushed and started for real, without Docker, Docker Hub or a GPU. `invoke recipes.long -- -k image` runs it.

The base is Debian as mmdebstrap makes it, the environment lora's CPU lock, the builder buildah. What stays unproven is CUDA's base
and a real cloud's pull. Needs root, buildah, mmdebstrap and the registry of `invoke servers.registry`; 5 to 20 minutes, 20 GB of disk.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.trainings import Training
from tests.rehearsal.conftest import PRIVATE_KEY, QUICK, eventually, make_spec, reachable, rent
from tests.servers import registry
from tests.servers.common import Unavailable
from trainyard.clouds.protocol import PodInfo
from trainyard.clouds.runpod import RunPodCloud
from trainyard.rehearsal.kit import start
from trainyard.rehearsal.kit.imageroot import check_root
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.remote.keys import new_ssh_key

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
BUILT = "localhost/trainyard-trainer:test"
_RUN = """
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --bind "$1" "$0/workspace" &&
exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TRAINYARD_ENVS=/opt/trainyard/envs OMP_NUM_THREADS=1 \
    sh -c 'cat /proc/net/dev >/workspace/net; exec sh /workspace/run/run.sh'
"""
_QUESTIONS = {
    "system": "grep -c Debian /etc/os-release; cat /opt/trainyard/recipe.lock | sha256sum | cut -c1-16",
    "seen": "echo $TRAINYARD_ENVS; ls $TRAINYARD_ENVS",
    "watchdog": "cat $WORKSPACE/.trainyard/watchdog/status.json",
    "environment": "tr '\\0' '\\n' </proc/1/environ; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c ^SSH_HOST_ED25519_KEY=",
}


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where images are built: a registry, a base in it, and buildah with a store of its own."""

    registry: str
    env: dict[str, str]

    @property
    def base(self) -> str:
        return f"{self.registry}/debian:base"

    def buildah(self, *words: str) -> str:
        return subprocess.run(["buildah", *words], env=self.env, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def invoke(self, *words: str) -> str:
        """Say a verb to its end; it must succeed. Its words to the person are shown, what it prints is returned."""
        order = [sys.executable, "-m", "invoke", *words]
        return subprocess.run(order, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    lacks = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
    if os.getuid() or lacks:
        pytest.skip(f"an image is built here by root, with buildah and mmdebstrap (apt-get install {' '.join(lacks)})")
    folder = Path(tempfile.mkdtemp(prefix="tyi", dir="/var/tmp"))
    (folder / "registries.conf").write_text("")
    (folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/store"\n')
    env = {
        **os.environ, "BUILDAH_ISOLATION": "chroot", "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "TMPDIR": str(folder),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"), "TRAINYARD_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    try:
        with registry.serve(folder) as address:
            (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
            workshop = Workshop(address, env)
            make_base(workshop, folder)
            yield workshop
    except Unavailable as why:
        pytest.skip(str(why))
    finally:
        for words in (("umount", "-a"), ("rm", "-a"), ("rmi", "-a", "-f")):
            subprocess.run(["buildah", *words], env=env, stdout=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def make_base(workshop: Workshop, folder: Path) -> None:
    """Put this machine's Debian into the registry, with what this machine reaches package registries by."""
    codename = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    sources = [str(path) for path in (*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")) if path.exists()]
    if codename is None or not sources:
        pytest.skip("the base is made from this machine's Debian, which it is not")
    how = ("--variant=minbase", "--include=ca-certificates", "--mode=root", '--aptopt=Dir::Etc::Parts "/etc/apt/apt.conf.d"')
    subprocess.run(["mmdebstrap", *how, codename[1], str(folder / "base.tar"), *sources], check=True)
    (folder / "uv.toml").write_text("system-certs = true\n")
    own = {"/etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf": "/etc/pip.conf"}
    own |= {str(path): str(path) for path in Path("/etc/apt/apt.conf.d").glob("99*")} | {str(folder / "uv.toml"): "/etc/uv/uv.toml"}
    container = workshop.buildah("from", "scratch")
    workshop.buildah("add", container, str(folder / "base.tar"), "/")
    for source, target in own.items():
        if Path(source).exists():
            workshop.buildah("copy", container, source, target)
    workshop.buildah("config", "--env", "PIP_CERT=/etc/ssl/certs/ca-certificates.crt", container)
    workshop.buildah("commit", container, workshop.base)
    workshop.buildah("rm", container)
    workshop.buildah("push", workshop.base)
    (folder / "base.tar").unlink()


@pytest.fixture(scope="module")
def image(workshop: Workshop) -> Path:
    """The files of the trainer image with lora's CPU environment, as the verb builds it."""
    said = workshop.invoke("image.build", "--recipe", "lora", "--lock", "cpu", "--base", workshop.base, "--tool", "buildah", "--ref", BUILT)
    assert re.search(rf"built on {workshop.base}@sha256:[0-9a-f]{{64}}$", said, re.MULTILINE) and "lora, merge" in said
    return Path(workshop.buildah("mount", workshop.buildah("from", "--pull-never", BUILT)))


def test_the_digest_that_is_printed_is_the_registrys(workshop: Workshop) -> None:
    name, how = f"{workshop.registry}/me/trainyard-trainer", ("--lock", "cpu", "--base", workshop.base, "--tool", "buildah")
    said = workshop.invoke("image.build", "--recipe", "dataset", *how, "--push", name)
    found = re.search(rf"^  trainyard:image: {name}@(sha256:[0-9a-f]{{64}})\n  trainyard:image_gb: (\d+)$", said, re.MULTILINE)
    assert found is not None and 1 <= int(found[2]) <= 4
    tag = re.search(rf"image {name}:(dataset-cpu-[0-9a-f]{{12}}) by buildah", said)
    assert tag is not None
    forms = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    answers = [
        httpx.head(f"http://{workshop.registry}/v2/me/trainyard-trainer/manifests/{one}", headers=forms) for one in (tag[1], found[1])
    ]
    assert [answer.headers["Docker-Content-Digest"] for answer in answers] == [found[1]] * 2


def test_a_run_in_the_image_installs_nothing_it_has_no_network(image: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {number}", "completion": str(number)} for number in range(8)]
    training = Training(tmp_path / "run", tmp_path, rows, "max_steps=2")
    order = ["unshare", "--net", "--mount", "--fork", "sh", "-c", _RUN, str(image), str(training.folder)]
    done = subprocess.run(order, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run: 3. ready environment" in done.stdout and "run: 6. done" in done.stdout
    assert re.findall(r"^ *(\w+):", (training.folder / "net").read_text(), re.MULTILINE) == ["lo"]
    assert training.steps == [1, 2] and (training.model / "adapter_model.safetensors").exists()


def test_a_pod_of_the_image_lets_in_its_key_alone_under_the_injected_host_key_and_ends_at_its_lease(image: Path, tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rpi"))
    emulator = start(RUNPOD, folder / "c", timing=QUICK, env={}, rootfs=check_root(image, RUNPOD))
    cloud = RunPodCloud.from_env(emulator.env)
    try:
        pod = rent(cloud, make_spec(150))
        info = reachable(cloud, pod.id)
        eventually(lambda: (emulator.root / "machines/pods" / f"pod-{pod.id}" / "workspace/.trainyard/watchdog/status.json").exists())
        eventually(lambda: listens(info))
        methods, host_key, said = asyncio.run(knock(info))
        assert methods == ["publickey"] and info.host_key is not None and host_key.split()[:2] == info.host_key.split()[:2]
        assert said["system"].split()[0] != "0" and said["system"].split()[1] in said["seen"] and "/opt/trainyard/envs" in said["seen"]
        assert '"armed": true' in said["watchdog"] and pod.id in said["watchdog"]
        assert "RUNPOD_API_KEY" not in said["environment"] and said["environment"].split()[-1] == "0"
        eventually(lambda: pod.id not in emulator.fleet.ledger.pods, 300)
        [paid] = [paid for paid in emulator.ledger() if paid.pod == pod.id]
        assert paid.why == "deleted by its own key" and paid.end is not None and pod.end is not None
        assert paid.end <= pod.end.timestamp() + 30 and cloud.get(pod.id) is None
    finally:
        cloud.close()
        emulator.stop(end_pods=True)
        shutil.rmtree(folder, ignore_errors=True)


def listens(info: PodInfo) -> bool:
    """Tell whether the image's SSH server is there: a cloud shows its port before that."""
    assert info.ssh is not None
    with socket.socket() as door:
        return door.connect_ex((info.ssh.host, info.ssh.port)) == 0


async def knock(info: PodInfo) -> tuple[list[str], str, dict[str, str]]:
    """Return by what one may log in, the host key that is shown, and the answers to some questions; a stranger's key is refused."""
    assert info.ssh is not None
    host, port = info.ssh.host, info.ssh.port
    methods = [str(method) for method in await asyncssh.get_server_auth_methods(host, port, username="root")]
    key = await asyncssh.get_server_host_key(host, port)
    assert key is not None

    def log_in(private_key: str) -> Any:
        own = [asyncssh.import_private_key(private_key)]
        return asyncssh.connect(host, port, username="root", known_hosts=None, agent_path=None, client_keys=own)

    with pytest.raises(asyncssh.PermissionDenied):
        async with log_in(new_ssh_key()[0]):
            pass
    async with log_in(PRIVATE_KEY) as link:
        said = {name: str((await link.run(command)).stdout) for name, command in _QUESTIONS.items()}
    return methods, key.export_public_key().decode(), said


def test_a_whole_run_trains_in_the_image_its_result_is_committed_and_its_pod_gone(image: Path, workshop: Workshop, tmp_path: Path) -> None:
    root = tmp_path / "world"
    root.mkdir()
    for name in ("infra", "playbooks", "templates", "tasks.py", "Pulumi.yaml", "Pulumi.runpod.yaml"):
        (root / name).symlink_to(ROOT / name)
    order = ["rehearse", "--stack", "runpod", "--rootfs", str(image), "--name", "image", "--set", "max_steps=4", "--yes"]
    env = {**workshop.env, "TRAINYARD_PROJECT_DIR": str(root), "TRAINYARD_HOME": str(root / ".trainyard"), "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-m", "invoke", *order], cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    world = root / ".trainyard/rehearsal/runpod"
    [log] = (world / "checkout/out").glob("*/image/train.log")
    assert "run: 3. ready environment" in log.read_text() and "building the environment" not in log.read_text()
    assert [path.name for path in (world / "outside/store/data").glob("*/models/*/image/1/*") if path.name == "_SUCCESS"] == ["_SUCCESS"]
    [model] = (world / "outside/store/data").glob("*/models/*/image/1/model")
    assert (model / "adapter_model.safetensors").is_file()
    ledger = (world / "cloud/ledger.jsonl").read_text()
    assert ledger.count('"paid"') == ledger.count('"unpaid"') == 1 and list((world / "cloud/pods").iterdir()) == []
