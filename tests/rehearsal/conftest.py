"""Rehearsals with real local pods behind them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import OfferQuery, PodInfo, PodSpec
from trainyard.clouds.runpod import RunPodCloud
from trainyard.pod.boot import boot_command
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.remote.keys import host_key, new_ssh_key

QUICK = Timing(provisioning=0.05, starting=0.05, ports=0.1, lag=1.0)
PRIVATE_KEY, PUBLIC_KEY = new_ssh_key()
BODY: dict[str, Any] = {"name": "a", "image": "x", "gpu": {"id": "NVIDIA GeForce RTX 5090"}}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder with a short path: Unix sockets allow no long one."""
    folder = Path(tempfile.mkdtemp(prefix="rp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def module_rehearsal(root: Path) -> Iterator[Emulator]:
    """One rehearsal for the tests of a file."""
    emulator = start(RUNPOD, root / "one", timing=QUICK, limits={"minute": 10**6}, env={})
    yield emulator
    emulator.stop(end_pods=True)
    assert not (root / "one/errors.log").exists(), (root / "one/errors.log").read_text()


@pytest.fixture
def rehearsal(module_rehearsal: Emulator) -> Iterator[Emulator]:
    """The rehearsal with no pod and no fault on it."""
    yield module_rehearsal
    module_rehearsal.faults.off()
    for record in module_rehearsal.fleet.all():
        module_rehearsal.fleet.delete(record["id"], "after a test")


@pytest.fixture(scope="module")
def paper(root: Path) -> Iterator[Emulator]:
    """An emulator whose pods never start: for what the API says."""
    emulator = start(RUNPOD, root / "paper", timing=Timing(provisioning=1e9), limits={"minute": 10**6}, env={})
    yield emulator
    emulator.stop(end_pods=True)


@pytest.fixture
def api(paper: Emulator) -> Iterator[httpx.Client]:
    """A client of it, with no pod and no fault."""
    with httpx.Client(base_url=paper.url, headers={"Authorization": f"Bearer {paper.key}"}, trust_env=False, timeout=5) as client:
        yield client
    paper.faults.off()
    paper.fleet.ledger.save_account({})
    for record in paper.fleet.all():
        paper.fleet.delete(record["id"], "after a test")


@pytest.fixture
def cloud(rehearsal: Emulator) -> Iterator[RunPodCloud]:
    cloud = RunPodCloud.from_env(rehearsal.env)
    yield cloud
    cloud.close()


def body(**changes: object) -> dict[str, Any]:
    """Return the body of a create; None leaves a key out."""
    merged = {**BODY, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def make_spec(seconds: float = 3600, rescue: float = 1.0, **changes: object) -> PodSpec:
    """Return a spec of our image whose lease ends in some seconds."""
    fence, lease, end = new_id(), new_id(), datetime.now(UTC) + timedelta(seconds=seconds)
    name = str(PodName(fence, lease, "pod", "0123abcd"))
    given = {
        "name": name,
        "fence_id": fence,
        "lease_id": lease,
        "stop": end - timedelta(seconds=rescue),
        "end": end,
        "image": "example/trainyard-trainer@sha256:00",
        "public_key": PUBLIC_KEY,
        "host_key": host_key(b"s" * 32, name).private_pem,
    }
    return PodSpec(**{**given, **changes})  # type: ignore[arg-type]


def make_foreign(seconds: float = 3600, **changes: Any) -> PodSpec:
    """Return a spec of an image that is not ours: its start arguments bring the watchdog."""
    return make_spec(seconds, image="ubuntu:24.04", boot=boot_command(), **changes)


def rent(cloud: RunPodCloud, spec: PodSpec) -> PodInfo:
    return cloud.create(spec, cloud.offers(OfferQuery(gpus=("RTX 5090",)))[0])


def eventually(condition: Callable[[], object], seconds: float = 90.0) -> None:
    """Wait for something that real processes are about to do."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.03)


def reachable(cloud: RunPodCloud, pod_id: str) -> PodInfo:
    """Return the pod once it has an address."""
    found: list[PodInfo] = []

    def look() -> bool:
        info = cloud.get(pod_id)
        if info is not None and info.ssh is not None:
            found.append(info)
        return bool(found)

    eventually(look)
    return found[-1]
