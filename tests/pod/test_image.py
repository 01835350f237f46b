"""The entrypoint of the trainer image, run as a script in a folder; tests/recipes/test_image.py has what builds and pushes the image."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainyard.pod.boot import KEYS
from trainyard.remote.keys import fingerprint, host_key

ROOT = Path(__file__).parents[2]
KEY = host_key(b"s" * 32, "pod")


class Container:
    """The entrypoint with a folder as its root and a stand-in for sshd that notes its start."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for path in ("etc/ssh", "opt/trainyard", "tmp", "workspace"):
            (folder / path).mkdir(parents=True)
        (folder / "etc/ssh/ssh_host_rsa_key").write_text("baked into the image")
        shutil.copy(ROOT / "trainyard/pod/watchdog.py", folder / "opt/trainyard/watchdog.py")
        (folder / "sshd").write_text(f"#!/bin/sh\necho started >>{folder}/starts\nexec sleep 60\n")
        (folder / "sshd").chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> None:
        base = {
            "PATH": f"{os.path.dirname(sys.executable)}:/usr/sbin:/usr/bin:/bin",
            "TRAINYARD_ROOT": str(self.root),
            "TRAINYARD_SSHD": str(self.root / "sshd"),
            "WORKSPACE": str(self.root / "workspace"),
            "TMPDIR": str(self.root / "tmp"),
            "TRAINYARD_END": "2099-01-01T00:00:00Z",
            "SSH_HOST_ED25519_KEY": base64.b64encode(KEY.private_pem.encode()).decode(),
            "PUBLIC_KEY": "ssh-ed25519 AAAA me",
        }
        with open(self.root / "log", "ab") as log:
            command = ["sh", str(ROOT / "docker/entrypoint.sh")]
            self.process = subprocess.Popen(command, env={**base, **env}, stdout=log, stderr=log, start_new_session=True)
        self.wait_for((self.root / "starts").exists)

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def wait_for(self, condition: Callable[[], object]) -> None:
        until = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < until, self.log
            time.sleep(0.02)

    def end(self) -> None:
        if self.process is not None and self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    ours = f"{self.root}/opt/trainyard/watchdog.py".encode() in (entry / "cmdline").read_bytes()
                    if ours:
                        os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    continue


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    container = Container(tmp_path)
    yield container
    container.end()
    container.end()


def test_the_injected_host_key_is_the_only_one(container: Container) -> None:
    container.start()
    keys = sorted(path.name for path in (container.root / "etc/ssh").iterdir())
    assert keys == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    private = container.root / "etc/ssh/ssh_host_ed25519_key"
    assert private.read_text() == KEY.private_pem and private.stat().st_mode & 0o777 == 0o600
    assert fingerprint(KEY.public) in container.log


@pytest.mark.parametrize("given", ["", "bm90IGEga2V5", "&&&"])
def test_without_a_usable_host_key_it_makes_one_and_says_so(container: Container, given: str) -> None:
    container.start(SSH_HOST_ED25519_KEY=given)
    assert "PRIVATE KEY" in (container.root / "etc/ssh/ssh_host_ed25519_key").read_text()
    assert "nobody knew it before" in container.log and KEY.private_pem not in container.log


def test_the_watchdog_is_armed_before_anything_else(container: Container) -> None:
    container.start()
    status = container.root / "workspace/.trainyard/watchdog/status.json"
    container.wait_for(status.exists)
    assert json.loads(status.read_text())["armed"]


def test_a_watchdog_that_does_not_start_is_said_aloud_and_the_pod_stays_reachable(container: Container) -> None:
    (container.root / "opt/trainyard/watchdog.py").write_text("import no_such_module\n")
    container.start()
    assert "only from outside" in container.log


def test_only_the_given_key_may_log_in_and_sessions_see_no_keys(container: Container) -> None:
    container.start(RUNPOD_API_KEY="rpa_pod_x", CONTAINER_API_KEY="c", HF_HOME="/cache", TWO_LINES="a\nPATH=/evil")
    ssh = container.root / "root/.ssh"
    assert (ssh / "authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"
    seen = (ssh / "environment").read_text()
    assert "HF_HOME=/cache" in seen and "WORKSPACE=" in seen
    assert all(word not in seen for word in ("rpa_pod_x", "CONTAINER_API_KEY", "SSH_HOST", "evil", "TWO_LINES"))


def test_the_first_process_and_all_that_it_starts_hold_none_of_the_pods_keys(container: Container) -> None:
    container.start(RUNPOD_API_KEY="rpa_pod_x", CONTAINER_API_KEY="c", JUPYTER_PASSWORD="j", ACME_KEY="o", TRAINYARD_POD_KEYS="ACME_KEY")
    assert container.process is not None
    seen = Path(f"/proc/{container.process.pid}/environ").read_bytes()
    assert b"WORKSPACE=" in seen and b"TRAINYARD_END=" in seen
    assert all(name.encode() + b"=" not in seen for name in (*KEYS, "ACME_KEY"))
    assert all(f"-u {name}" in (ROOT / "docker/entrypoint.sh").read_text() for name in KEYS)


def test_a_command_of_a_cloud_without_ssh_takes_its_place(tmp_path: Path) -> None:
    order = ["sh", str(ROOT / "docker/entrypoint.sh"), "sh", "-c", 'echo "$1"; exit 7', "sh", "two words"]
    done = subprocess.run(order, env={"PATH": os.defpath, "TRAINYARD_ROOT": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (7, "two words\n", [])


def test_sshd_is_started_again_when_it_dies(container: Container) -> None:
    (container.root / "sshd").write_text(f"#!/bin/sh\necho started >>{container.root}/starts\nexit 1\n")
    container.start()
    container.wait_for(lambda: (container.root / "starts").read_text().count("started") >= 2)
    assert container.process is not None and container.process.poll() is None


def test_when_the_machine_is_taken_away_the_job_is_asked_to_save(container: Container, tmp_path: Path) -> None:
    job = tmp_path / "workspace/job"
    job.mkdir()
    script = f'trap "echo saved >{job}/saved; exit" TERM; echo $$ >{job}/pid; while :; do sleep 0.05; done'
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as running:
        try:
            container.start()
            container.wait_for((job / "pid").exists)
            assert container.process is not None
            container.process.send_signal(signal.SIGTERM)
            container.wait_for((job / "saved").exists)
            assert container.process.poll() is None
        finally:
            running.kill()


def test_the_ssh_servers_settings_are_valid_and_let_only_keys_in(tmp_path: Path) -> None:
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if sshd is None:
        pytest.skip("no sshd on this machine")
    (tmp_path / "key").write_text(KEY.private_pem)
    (tmp_path / "key").chmod(0o600)
    settings = (ROOT / "docker/sshd_config").read_text().replace("/etc/ssh/ssh_host_ed25519_key", str(tmp_path / "key"))
    (tmp_path / "sshd_config").write_text(settings)
    # sshd insists on this folder, which systems make when they start it; local pods look for it, too.
    place = Path("/run/sshd")
    made = not place.exists()
    try:
        place.mkdir(exist_ok=True)
        done = subprocess.run([sshd, "-T", "-f", str(tmp_path / "sshd_config")], capture_output=True, text=True, check=False)
    except PermissionError:
        pytest.skip("sshd was never started on this machine")
    finally:
        if made and place.exists():
            place.rmdir()
    assert done.returncode == 0, done.stderr
    for line in ("passwordauthentication no", "kbdinteractiveauthentication no", "permitrootlogin without-password", "maxsessions 64"):
        assert line in done.stdout.lower(), done.stdout
