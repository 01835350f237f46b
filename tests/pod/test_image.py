"""The trainer image without Docker: its entrypoint run as a script in a folder, and the commands that build and push it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from trainyard.errors import TrainyardError, UserError
from trainyard.pod import image
from trainyard.pod.boot import KEYS
from trainyard.remote.keys import fingerprint, host_key

ROOT = Path(__file__).parents[2]
KEY = host_key(b"s" * 32, "pod")
DIGEST = "sha256:" + "a" * 64
NAME = "ghcr.io/me/trainyard-trainer"


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


class Docker:
    """Notes commands, answers as Docker would."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> str:
        self.asked.append(list(command))
        return self.answers.pop(0)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docker", tmp_path / "docker", ignore=shutil.ignore_patterns("base.digest"))
    return tmp_path


def test_the_first_build_records_the_base_images_digest_and_later_ones_keep_it(checkout: Path) -> None:
    index = {"digest": "sha256:" + "b" * 64, "manifests": [
        {"digest": "sha256:" + "c" * 64, "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": DIGEST, "platform": {"os": "linux", "architecture": "amd64"}},
    ]}  # fmt: skip
    docker = Docker(json.dumps(index), "", "")
    image.build(checkout, "ghcr.io/me/trainyard-trainer:1", run=docker)
    image.build(checkout, "ghcr.io/me/trainyard-trainer:1", run=docker)
    assert (checkout / "docker/base.digest").read_text() == DIGEST + "\n"
    assert [command[1:3] for command in docker.asked] == [["buildx", "imagetools"], ["buildx", "build"], ["buildx", "build"]]
    assert f"BASE_DIGEST={DIGEST}" in docker.asked[1] and "linux/amd64" in docker.asked[1]


def test_a_build_without_a_digest_cannot_happen(checkout: Path) -> None:
    assert "ARG BASE_DIGEST\n" in (checkout / "docker/Dockerfile").read_text()
    with pytest.raises(TrainyardError, match="no digest"):
        image.build(checkout, "ghcr.io/me/trainyard-trainer:1", run=Docker("{}"))
    (checkout / "docker/base.digest").write_text("latest\n")
    with pytest.raises(UserError, match="no digest"):
        image.build(checkout, "ghcr.io/me/trainyard-trainer:1", run=Docker())


def test_a_push_names_the_image_by_its_digest() -> None:
    found = {"RepoDigests": [f"other@{DIGEST}", f"localhost:5000/trainyard-trainer@{DIGEST}"], "Size": 17_200_000_000}
    inspected = json.dumps([found])
    docker = Docker("", inspected)
    assert image.push("localhost:5000/trainyard-trainer:1", run=docker) == (f"localhost:5000/trainyard-trainer@{DIGEST}", 18)


@pytest.mark.parametrize("reference", ["trainyard-trainer", "ghcr.io/me/other:1", "localhost:5000/trainyard-trainer", ""])
def test_another_name_would_not_be_known_as_an_image_that_brings_the_watchdog(reference: str, checkout: Path) -> None:
    with pytest.raises(UserError, match="trainyard-trainer:TAG"):
        image.build(checkout, reference, run=Docker())


def test_everything_that_the_dockerfile_copies_exists() -> None:
    text = (ROOT / "docker/Dockerfile").read_text()
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    sources = [re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], words.split()[-2]) for words in re.findall(r"^COPY (.+)$", text, re.M)]
    assert len(sources) == 5
    assert [path for path in sources if not (ROOT / path).is_file()] == []


def test_a_repository_of_ones_own_builds_the_image_from_what_trainyard_brings_and_from_its_own_files(tmp_path: Path) -> None:
    root, seen = tmp_path / "own", {}

    def docker(command: Sequence[str]) -> str:
        folder = Path(command[-1])
        seen.update({path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()})
        return ""

    (root / "docker").mkdir(parents=True)
    (root / "docker/base.digest").write_text(DIGEST + "\n")
    (root / "docker/sshd_config").write_text("# mine\n")
    (root / "docker/__pycache__").mkdir()
    (root / "docker/__pycache__/x.pyc").write_bytes(b"\xa7")
    image.build(root, f"{NAME}:1", run=docker)

    assert seen["docker/sshd_config"] == "# mine\n"
    for path in ("docker/Dockerfile", "docker/entrypoint.sh", "templates/lora/gpu.lock", "trainyard/pod/watchdog.py"):
        assert seen[path] == (ROOT / path).read_text()


def test_the_commands_that_the_folders_readme_shows_exist() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        import tasks
    finally:
        sys.path.remove(str(ROOT))
    shown = re.findall(r"`invoke (image\.\w+)([^`]*)`", (ROOT / "docker/README.md").read_text())
    assert {verb for verb, _ in shown} == {"image.build", "image.push"}
    for verb, words in shown:
        known = {f"--{name}" for argument in tasks.ns[verb].get_arguments() for name in argument.names}
        assert set(re.findall(r"--\w+", words)) <= known


def test_the_environment_in_the_image_has_the_name_that_run_sh_looks_for() -> None:
    lines = (ROOT / "docker/Dockerfile").read_text(), (ROOT / "templates/common/run.sh.j2").read_text()
    assert "$(sha256sum /opt/trainyard/gpu.lock | cut -c1-16)-py$py-linux-x86_64" in lines[0]
    assert '"$1/$key"-py*-"$platform"' in lines[1] and 'key=$(sha256 "$lock" | cut -c1-16)' in lines[1]


def test_the_verbs_ask_docker_for_the_pinned_platform_and_print_what_belongs_into_the_settings(tmp_path: Path) -> None:
    root, log = tmp_path / "w", tmp_path / "log"
    shutil.copytree(ROOT / "docker", root / "docker", ignore=shutil.ignore_patterns("base.digest"))
    for name in ("tasks.py", "Pulumi.yaml"):
        (root / name).symlink_to(ROOT / name)
    inspected = json.dumps([{"RepoDigests": [f"{NAME}@{DIGEST}"], "Size": 9e9}])
    answers = {"imagetools": json.dumps({"digest": DIGEST}), "image inspect": inspected}
    said = "\n".join(f"  *'{words}'*) echo '{answer}' ;;" for words, answer in answers.items())
    (tmp_path / "docker").write_text(f'#!/bin/sh\necho "$*" >>{log}\ncase "$*" in\n{said}\nesac\n')
    (tmp_path / "docker").chmod(0o755)

    def invoke(*words: str) -> str:
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TRAINYARD_PROJECT_DIR": str(root), "COLUMNS": "200"}
        done = subprocess.run([sys.executable, "-m", "invoke", *words], cwd=root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    invoke("image.build", "--ref", f"{NAME}:1")
    built = log.read_text().splitlines()[-1]
    context = built.rpartition(" ")[2]
    assert built.startswith("buildx build --platform linux/amd64 --load") and built.endswith(f"--tag {NAME}:1 {context}")
    assert f"--build-arg BASE_DIGEST={DIGEST} --file {context}/docker/Dockerfile" in built
    assert not Path(context).exists()
    assert invoke("image.push", "--ref", f"{NAME}:1").split() == ["trainyard:image:", f"{NAME}@{DIGEST}", "trainyard:image_gb:", "9"]
