"""A real S3 server for the whole session, a bucket for each test, a lying proxy, a folder that plays the pod."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.servers import server_or_skip
from tests.storage import hub_emulator, lying_proxy
from tests.storage.elsewhere import NOT_THERE
from tests.storage.hub_emulator import HubEmulator
from trainyard.config import Places
from trainyard.pod.podprogram import PodProgram, pod_program
from trainyard.remote.local import LocalTransport
from trainyard.setup import s3server
from trainyard.storage import bucket, canary, local, podorders, seal, staging
from trainyard.storage.client import StoreSettings, with_bucket

PART = 5 << 20


def places_at(root: Path) -> Places:
    return Places(root=root, home=root / "home", outside=root / "outside", settings=root / "settings")


@pytest.fixture(autouse=True)
def _no_syncfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It flushes the whole filesystem, whoever wrote to it; one test calls the real one and shows when it is called."""
    for module in (seal, staging):
        monkeypatch.setattr(module, "_syncfs" if module is seal else "sync_all", lambda folder: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, what another server than the local one cannot pass."""
    table = NOT_THERE.get(config.getoption("store"), {})
    for item in items:
        if why := table.get(item.name):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def binary() -> Path:
    """The S3 server's program, built if this machine has none."""
    named = os.environ.get("TRAINYARD_VERSITYGW")
    return Path(named) if named else s3server.ensure()


@pytest.fixture(scope="session")
def store_places(request: pytest.FixtureRequest) -> Iterator[Places]:
    """Where the local server lies; what needs it is skipped when the tests run against another server."""
    if (name := request.config.getoption("store")) != "versitygw":
        pytest.skip(f"it tries the local server itself, and --store {name} was asked for")
    binary: Path = request.getfixturevalue("binary")
    root = Path(tempfile.mkdtemp(prefix="tys"))
    places = places_at(root)
    local.ensure(places, binary=binary)
    yield places
    local.stop(places)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[StoreSettings]:
    """The server that --store names: the local one, or MinIO or Ceph where this machine has them."""
    name = request.config.getoption("store")
    if name == "versitygw":
        yield local.ensure(request.getfixturevalue("store_places"), binary=request.getfixturevalue("binary"))
        return
    with tempfile.TemporaryDirectory(prefix="tys", dir="/tmp") as folder, ExitStack() as running:
        found = with_bucket(running.enter_context(server_or_skip(name, Path(folder))), "the-canary")
        bucket.adopt_or_create(found)
        yield canary.probed(found)


@pytest.fixture(scope="session")
def minio_server(request: pytest.FixtureRequest) -> Iterator[StoreSettings]:
    """MinIO, for what only it has of the servers here (STS); skipped where this machine has none."""
    if request.config.getoption("store") == "minio":
        yield request.getfixturevalue("server")
        return
    with tempfile.TemporaryDirectory(prefix="tys", dir="/tmp") as folder, server_or_skip("minio", Path(folder)) as found:
        yield found


@pytest.fixture
def minio_store(minio_server: StoreSettings) -> StoreSettings:
    """A fresh bucket on MinIO."""
    return fresh_bucket(minio_server)


@pytest.fixture
def settings(server: StoreSettings) -> StoreSettings:
    """A fresh bucket on the real server."""
    return fresh_bucket(server)


def fresh_bucket(server: StoreSettings) -> StoreSettings:
    local.revive(server)
    found = with_bucket(server, f"t-{secrets.token_hex(5)}")
    bucket.adopt_or_create(found)
    return found


@pytest.fixture(scope="session")
def running_proxy(server: StoreSettings) -> Iterator[lying_proxy.LyingProxy]:
    port = urlsplit(server.endpoint or "").port
    assert port
    running = lying_proxy.start(port)
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def proxy(running_proxy: lying_proxy.LyingProxy) -> Iterator[lying_proxy.LyingProxy]:
    """The lying proxy, honest until a test adds faults."""
    yield running_proxy
    running_proxy.reset()


@pytest.fixture
def through(settings: StoreSettings, proxy: lying_proxy.LyingProxy) -> StoreSettings:
    """The same bucket, reached through the lying proxy."""
    return replace(settings, endpoint=proxy.endpoint, attempts=2)


def here() -> LocalTransport:
    """A transport to the folder that plays the pod, with the Python of the tests on its PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return LocalTransport(env={**os.environ, "PATH": path})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubEmulator]:
    """An emulator of the Hub. Xet, which the real one may choose, is a protocol of its own and no part of it."""
    pytest.importorskip("huggingface_hub", reason="NO huggingface_hub: deliveries to the Hub were not tried")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    running = hub_emulator.start()
    yield running
    running.server.shutdown()
    running.server.server_close()


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder that plays a pod's /workspace after a training."""

    root: Path

    @property
    def output(self) -> str:
        return str(self.root / "output")

    def write(self, path: str, content: bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file


@pytest.fixture
def pod(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return trained_pod(tmp_path_factory.mktemp("pod"))


def trained_pod(root: Path) -> Workspace:
    """Return a pod after a training: a model in two parts, small files, and things that are not part of the result."""
    made = Workspace(root)
    made.write("output/model/model.safetensors", os.urandom(PART + 7))
    made.write("output/model/config.json", b'{"architectures": []}\n')
    made.write("output/model/tokenizer/vocab.txt", b"a\nb\n")
    made.write("output/model/empty", b"")
    made.write("output/checkpoints/checkpoint-10/optimizer.pt", b"o" * 1000)
    made.write("output/metrics.jsonl", b'{"step": 1}\n')
    made.write("output/status.json", b'{"state": "done"}\n')
    made.write("output/notes.txt", b"left over")
    made.write("job/log", b"step 1\nstep 2\n")
    made.write("run/config.json", b'{"lr": 0.1}\n')
    return made


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder by its path there."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def change_program(monkeypatch: pytest.MonkeyPatch, changes: Mapping[bytes, bytes]) -> None:
    """Send pods a fetcher with other texts in it."""
    *parts, (name, text) = pod_program("fetch").modules
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    changed = PodProgram((*parts, (name, text)))
    monkeypatch.setattr(podorders, "pod_program", lambda verb: changed if verb == "fetch" else pod_program(verb))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pod's fetcher not wait between its tries."""
    change_program(monkeypatch, {b'order.get("backoff", 0.5)': b"0.001"})
