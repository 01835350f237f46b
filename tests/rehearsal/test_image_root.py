"""Pods of an emulated cloud made from the files of an image, here of a few programs; a real one: tests/recipes/test_image_started.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rehearsal.conftest import QUICK, eventually, make_spec, reachable, rent
from trainyard.clouds.local import launch
from trainyard.clouds.runpod import RunPodCloud
from trainyard.errors import UserError
from trainyard.rehearsal.ionet import MACHINES
from trainyard.rehearsal.kit import Emulator, start
from trainyard.rehearsal.kit.imageroot import ENTRYPOINT, IMAGE_ENV, check_root
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.rehearsal.vast import VAST

ROOT = Path(__file__).parents[2]
ONLY_HERE = pytest.mark.skipif(bool(os.getuid() or launch.probe()), reason="an image's files are started by root, with namespaces")
_ENTRYPOINT = """#!/bin/sh
env >/workspace/env
cat /opt/trainyard/sshd_config >/workspace/sshd
echo mine >/etc/written
ls / /etc >/workspace/seen
exec sleep 3600
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The files of an image: an entrypoint, and a few programs with the libraries that they need."""
    root = tmp_path / "image"
    for name in ("sh", "ls", "cat", "env", "sleep"):
        program = Path(shutil.which(name) or name).resolve()
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for source in (program, *map(Path, re.findall(r"(/\S+)", listed.partition("\n")[2] if "vdso" in listed else listed))):
            target = root / str(source).lstrip("/") if source != program else root / "bin" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for folder in ("etc", "tmp", "usr/bin", "opt/trainyard"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / ENTRYPOINT).write_text(_ENTRYPOINT)
    (root / ENTRYPOINT).chmod(0o755)
    shutil.copy(ROOT / "docker/sshd_config", root / "opt/trainyard/sshd_config")
    return root


@pytest.fixture
def emulator(root: Path, image: Path) -> Iterator[Emulator]:
    emulator = start(RUNPOD, root / "image", timing=QUICK, env={}, rootfs=check_root(image, RUNPOD))
    yield emulator
    emulator.stop(end_pods=True)
    assert not (root / "image/errors.log").exists(), (root / "image/errors.log").read_text()


@ONLY_HERE
def test_a_pod_is_the_image_with_a_layer_of_its_own_and_leaves_nothing(emulator: Emulator, image: Path, root: Path) -> None:
    cloud = RunPodCloud.from_env(emulator.env)
    pod = rent(cloud, make_spec())
    workspace = root / "image/machines/pods" / f"pod-{pod.id}" / "workspace"
    eventually((workspace / "seen").exists)
    info = reachable(cloud, pod.id)

    seen = (workspace / "seen").read_text().split()
    assert {"workspace", "written", "opt"} < set(seen) and "home" not in seen
    assert not (image / "etc/written").exists() and f"Port {info.ssh.port}" in (workspace / "sshd").read_text()  # type: ignore[union-attr]
    env = dict(line.partition("=")[::2] for line in (workspace / "env").read_text().splitlines())
    assert IMAGE_ENV.items() < env.items() and {"SSH_HOST_ED25519_KEY", "PUBLIC_KEY", "RUNPOD_API_KEY", "TRAINYARD_END"} < set(env)
    assert not {"TRAINYARD_POD_SOCKET", "TRAINYARD_SSH_READY"} & set(env)

    cloud.terminate(pod.id)
    eventually(lambda: not workspace.exists())
    assert str(image) not in Path("/proc/self/mountinfo").read_text()
    cloud.close()


def test_what_cannot_be_started_is_refused_before_anything_is(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"holds no files of a trainer image: there is no /opt/trainyard/entrypoint.sh"):
        check_root(tmp_path, RUNPOD)
    for cloud in (VAST, MACHINES):
        with pytest.raises(UserError, match="are not started by an image's entrypoint"):
            check_root(image, cloud)
    (odd := tmp_path / "a,b").symlink_to(image)
    shutil.copytree(image, tmp_path / "c,d")
    with pytest.raises(UserError, match="a colon or a comma"):
        check_root(tmp_path / "c,d", RUNPOD)
    monkeypatch.setenv("TRAINYARD_LOCAL_ISOLATION", "process")
    with pytest.raises(UserError, match="cannot be started as a pod here"):
        check_root(odd, RUNPOD)


def test_a_pod_sees_the_variables_that_the_dockerfile_says() -> None:
    text = (ROOT / "docker/Dockerfile").read_text()
    said = dict(re.findall(r"(\w+)=(\S+)", text.partition("\nENV ")[2].partition("\n\n")[0]))
    assert said.pop("DEBIAN_FRONTEND") == "noninteractive" and said == IMAGE_ENV
