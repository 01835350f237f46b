"""A rehearsal whose pods never get a machine: enough for everything that is about the API alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.clouds.runpod.scripted import TurnedPace
from trainyard.clouds.http import Pace
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import PodSpec
from trainyard.clouds.runpod import RunPodCloud
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.remote.keys import host_key


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One rehearsal for the tests of a file: its threads must be gone when other tests of this process fork an engine."""
    emulator = start(RUNPOD, tmp_path_factory.mktemp("rp"), timing=Timing(provisioning=1e9), limits={"minute": 10**6}, env={})
    yield emulator
    emulator.stop(end_pods=True)


@pytest.fixture
def rehearsal(paper: Emulator) -> Iterator[Emulator]:
    """The rehearsal with no pod and no fault on it."""
    yield paper
    paper.faults.off()
    for record in paper.fleet.all():
        paper.fleet.delete(record["id"], "after a test")
    paper.fleet.ledger.save_account({})


@pytest.fixture
def pace() -> TurnedPace:
    return TurnedPace()


@pytest.fixture
def cloud(rehearsal: Emulator, pace: TurnedPace) -> Iterator[RunPodCloud]:
    """A client that waits on a turned clock."""
    cloud = RunPodCloud.from_env(rehearsal.env)
    cloud._api.pace = cloud._graphql.api.pace = Pace(pace.now, pace.sleep, lambda: 0.5)
    cloud._api.timeout = cloud._graphql.api.timeout = 5.0
    yield cloud
    cloud.close()


@pytest.fixture
def spec() -> Callable[..., PodSpec]:
    """Return a maker of specs, each of its own name."""

    def make(**changes: object) -> PodSpec:
        fence, lease, end = new_id(), new_id(), datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
        name = str(PodName(fence, lease, "pod", "0123abcd"))
        given = {
            "name": name,
            "fence_id": fence,
            "lease_id": lease,
            "stop": end - timedelta(minutes=30),
            "end": end,
            "image": "example/trainyard-trainer@sha256:00",
            "public_key": "ssh-ed25519 AAAA me",
            "host_key": host_key(b"s" * 32, name).private_pem,
        }
        return PodSpec(**{**given, **changes})  # type: ignore[arg-type]

    return make
