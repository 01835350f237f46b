"""The program and the plugin under each engine that this machine has, with real local pods."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from trainyard.clouds.local import LocalCloud
from trainyard.clouds.protocol import OfferQuery, PodInfo, PodSpec
from trainyard.engine.backend import Backend
from trainyard.engine.secrets import new_salt
from trainyard.leases import intents
from trainyard.remote.keys import host_key, new_ssh_key

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("builtin", "cli")
PLUGIN = ("resource", "command", "1.2.1")


@dataclass
class Site:
    """A checkout, a stack and an engine of their own."""

    engine: str
    base: Path
    stack: str = "local"
    config: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir()
        for name in ("infra", "Pulumi.yaml", ".venv"):
            (self.root / name).symlink_to(ROOT / name)
        (self.base / "state").mkdir()
        self.salt = new_salt("passphrase")
        Backend(self.base / "state").create("trainyard", self.stack, self.salt)

    @property
    def root(self) -> Path:
        return self.base / "w"

    @property
    def cloud(self) -> LocalCloud:
        return LocalCloud(self.base / "out" / "cloud")

    @property
    def intents(self) -> Path:
        return self.base / "home" / "intents"

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PULUMI_HOME": str(self.base / "pulumi"),
            "PULUMI_BACKEND_URL": (self.base / "state").as_uri(),
            "PULUMI_CONFIG_PASSPHRASE": "passphrase",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "TRAINYARD_PROJECT_DIR": str(self.root),
            "TRAINYARD_HOME": str(self.base / "home"),
            "TRAINYARD_LOCAL_ROOT": str(self.base / "out"),
            "XDG_CONFIG_HOME": str(self.base / "config"),
        }

    def run(self, operation: str, *, expect: int = 0, **change: object) -> str:
        """Run an operation with changed settings; return what was printed."""
        self.config |= change
        settings = self.base / "settings.yaml"
        config = {f"trainyard:{key}": value for key, value in self.config.items() if value is not None}
        settings.write_text(json.dumps({"config": config, "encryptionsalt": self.salt}))
        shared = ["-C", str(self.root), "--stack", self.stack, "--config-file", str(settings), "-y"]
        if self.engine == "cli":
            command = ["pulumi", operation, *shared, "--non-interactive", "--skip-preview"]
        else:
            command = [sys.executable, "-m", "trainyard.engine", operation, *shared]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=100)
        printed = done.stdout + done.stderr
        assert (done.returncode == 0) == (expect == 0), printed
        # The plugin under test may be a build of its source, which calls itself by another version.
        aloud = [line for line in printed.splitlines() if "warning" in line and "resource plugin command is expected" not in line]
        assert not [line for line in aloud if "1 warning" not in line], printed
        return printed

    def pods(self) -> list[PodInfo]:
        return self.cloud.list()

    def outputs(self, kind: str, name: str) -> dict[str, object]:
        path = self.base / "state" / ".pulumi" / "stacks" / "trainyard" / f"{self.stack}.json"
        for resource in json.loads(path.read_text())["checkpoint"]["latest"]["resources"]:
            if resource["type"].endswith(f":{kind}") and resource["urn"].endswith(f"::{name}"):
                return dict(resource["outputs"])
        raise AssertionError(f"no {kind} {name} in state")


@pytest.fixture(params=ENGINES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "cli":
        _need_cli(tmp_path)
    site = Site(request.param, tmp_path, config={"cloud": "local", "bucket": "none", "pods": 1, "hours": 1})
    yield site
    for pod in site.pods():
        site.cloud.terminate(pod.id)


def _need_cli(base: Path) -> None:
    """Skip, aloud, without the Pulumi CLI and the command plugin; put the plugin where the CLI will look."""
    if shutil.which("pulumi") is None:
        pytest.skip("NO PULUMI CLI on PATH: the program was not run under it")
    cache = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi") / "plugins" / "resource-command-v1.2.1"
    binary = shutil.which("pulumi-resource-command", path=f"{os.environ['PATH']}{os.pathsep}{cache}")
    if binary is None:
        pytest.skip("THE COMMAND PLUGIN is neither on PATH nor in the plugin cache: the program was not run under the Pulumi CLI")
    # A folder of its own: the CLI overlooks one that is a link.
    target = base / "pulumi" / "plugins" / "resource-command-v1.2.1"
    target.mkdir(parents=True)
    (target / "pulumi-resource-command").symlink_to(binary)


def test_a_stack_s_life_from_a_wrong_setting_to_nothing_left(site: Site) -> None:
    printed = site.run("up", expect=1, gpu_count="two")
    assert "Pulumi.local.yaml: trainyard:gpu_count must be a whole number, not 'two'" in printed
    assert site.pods() == []

    site.run("up", gpu_count=None)
    (pod,) = site.pods()
    assert pod.host_key == site.outputs("Pod", "pod-0")["host_key"]
    key_file = Path(str(site.outputs("SshKey", "key")["key_file"]))

    key_file.unlink()
    site.run("up", hours=2)
    (same,) = site.pods()
    assert same.id == pod.id, "a moved deadline and a lost key file make no other pod"
    assert pod.end and same.end and (same.end - pod.end).total_seconds() == 3600
    assert key_file.exists()

    site.run("up", disk_gb=2)
    (other,) = site.pods()
    assert other.id != pod.id
    assert other.lease_id == pod.lease_id

    site.run("destroy")
    assert site.pods() == []
    assert [path.name for path in site.intents.iterdir()] == ["closed"]
    assert not key_file.exists()


def test_a_dead_pod_and_a_closed_environment_are_made_anew_and_destroy_finds_strays(site: Site) -> None:
    site.run("up")
    (first,) = site.pods()
    site.cloud.terminate(first.id)
    site.run("refresh")
    intents.close(site.intents, str(first.fence_id), 1.0)
    site.run("up")
    (second,) = site.pods()
    assert first.fence_id != second.fence_id == site.outputs("Lease", "fence")["fence_id"]
    # A run of this environment whose own stack is lost: only the id on the pod tells.
    _rent_under(site, str(second.fence_id))
    site.run("destroy")
    assert site.pods() == []


def _rent_under(site: Site, fence_id: str) -> None:
    name = f"ty-{fence_id}-{'9' * 10}-pod-00000000"
    end, key = site.cloud.now() + timedelta(hours=1), host_key(b"x" * 32, name)
    spec = PodSpec(name, fence_id, "9" * 10, None, end, public_key=new_ssh_key()[1], host_key=key.private_pem)
    site.cloud.create(spec, site.cloud.offers(OfferQuery())[0])
