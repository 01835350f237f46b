"""A pod is gone when everything agrees: each lie of the emulated RunPod that was ever believed, and those beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.rehearsal.conftest import make_spec
from trainyard.clouds.absence import KnownPod, Proof, prove, unasked
from trainyard.clouds.http import Pace
from trainyard.clouds.protocol import OfferQuery, PodInfo
from trainyard.clouds.runpod import RunPodCloud
from trainyard.errors import StillThere
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.secret import Secret

SETTLE = 60.0


@dataclass
class Site:
    """An account whose pods cost money from the first moment, and a clock that only sleeping moves."""

    emulator: Emulator
    cloud: RunPodCloud
    at: list[float] = field(default_factory=lambda: [1000.0])

    def rent(self) -> PodInfo:
        return self.cloud.create(make_spec(), self.cloud.offers(OfferQuery(gpus=("RTX 5090",)))[0])

    def sleep(self, seconds: float) -> None:
        self.at[0] += seconds

    def prove(self, *known: str, lease: str | None = None, trusted_from: float = 0.0, patience: float = 300.0) -> Proof:
        return prove(
            self.cloud, [KnownPod(pod_id) for pod_id in known], None if lease is None else lambda pod: pod.lease_id == lease,
            trusted_from=trusted_from, patience=patience, time=lambda: self.at[0], sleep=self.sleep,
        )  # fmt: skip

    def asked(self) -> list[str]:
        """Return the calls that the API was asked, in order."""
        lines = (self.emulator.root / "requests.jsonl").read_text().splitlines()
        return [call for line in lines if (call := json.loads(line)["call"])]

    def alive(self) -> list[str]:
        return [record["id"] for record in self.emulator.fleet.all()]

    def lie(self, *names: str, times: int | None = None) -> None:
        for name in names:
            self.emulator.faults.on(name, times=times)


@pytest.fixture(scope="module")
def account() -> Iterator[Emulator]:
    with tempfile.TemporaryDirectory(prefix="ab") as folder:
        emulator = start(RUNPOD, Path(folder), timing=Timing(provisioning=1e9), limits={"minute": 10**6}, env={})
        yield emulator
        emulator.stop(end_pods=True)


@pytest.fixture
def site(account: Emulator) -> Iterator[Site]:
    cloud = RunPodCloud(
        Secret(account.key), account.url, account.env["RUNPOD_GRAPHQL_URL"], {}, Pace(sleep=lambda seconds: None), settle=SETTLE
    )
    yield Site(account, cloud)
    cloud.close()
    account.faults.off()
    for record in account.fleet.all():
        account.fleet.delete(record["id"], "after a test")


def test_a_pod_is_ended_denied_and_missing_from_two_lists_apart_before_it_is_gone(site: Site) -> None:
    pod = site.rent()
    proof = site.prove(pod.id)
    assert proof.proved and [gone.id for gone in proof.ended] == [pod.id] and site.alive() == []
    assert 5.0 <= site.at[0] - 1000.0 < 10.0, "two lists, 5 s apart; the settle time is not waited for what is known by id"
    assert proof.ended_at(pod.id) == 1000.0, "the wait for the proof is not billed"


def test_a_list_is_asked_for_only_when_a_pod_is_denied_by_its_id_or_others_may_belong(site: Site) -> None:
    pods = [site.rent() for _ in range(3)]
    before = len(site.asked())
    assert site.prove(*(pod.id for pod in pods)).proved
    calls = site.asked()[before:]
    assert calls.index("list") > max(at for at, call in enumerate(calls) if call == "delete") and calls.count("list") == 2, calls

    pod = site.rent()
    before = len(site.asked())
    assert site.prove(pod.id, lease=pod.lease_id).proved
    calls = site.asked()[before:]
    assert calls[:2] == ["list", "get"] and calls.count("list") == 3, "who was alive, and then two that prove it"


@pytest.mark.parametrize(
    "lie", ["list-empty", "list-misses-one", "list-empty-with-error", "list-null", "list-without-ids", "get-404-untrue"]
)
def test_one_lie_of_a_list_or_of_a_get_hides_no_pod(site: Site, lie: str) -> None:
    pod = site.rent()
    site.lie("delete-ignored", "graphql-error")
    site.lie(lie)
    proof = site.prove(pod.id, patience=20)
    assert not proof.proved and site.alive() == [pod.id]
    assert pod.id in str(proof) and f"${pod.price_per_hour:.2f}/h" in str(proof)


@pytest.mark.parametrize(
    "lies", [("delete-500", "list-empty"), ("delete-404-untrue", "list-empty"), ("delete-ignored", "list-empty"), ("get-404-untrue",)]
)
def test_lies_that_end_are_outlived_and_the_pod_is_ended(site: Site, lies: tuple[str, ...]) -> None:
    pod = site.rent()
    site.lie("graphql-error", times=1)
    site.lie(*lies, times=1)
    assert site.prove(pod.id).proved
    assert site.alive() == []


def test_a_delete_that_the_cloud_never_took_proves_nothing_whatever_else_it_says(site: Site) -> None:
    pod = site.rent()
    site.lie("delete-500", "graphql-error", "get-404-untrue", "list-empty")
    proof = site.prove(pod.id, patience=60)
    assert [left.id for left in proof.unknown] == [pod.id] and "500" in str(proof)
    with pytest.raises(StillThere, match=pod.id):
        proof.require("Again: ...")


def test_an_answer_about_another_pod_is_no_word_about_this_one(site: Site) -> None:
    pod = site.rent()
    site.lie("get-another", "list-empty")
    assert not site.prove(pod.id, patience=20).proved


def test_a_key_that_may_not_end_pods_is_told_at_once(site: Site) -> None:
    pod = site.rent()
    site.lie("delete-forbidden", "graphql-error")
    proof = site.prove(pod.id)
    assert [left.id for left in proof.there] == [pod.id] and "access denied" in str(proof)
    assert site.at[0] - 1000.0 < 30.0


def test_an_outage_is_not_knowing_and_is_not_waited_for_for_ever(site: Site) -> None:
    pod = site.rent()
    site.lie("everything-500")
    proof = site.prove(pod.id)
    assert not proof.proved and not proof.there and {left.id for left in proof.unknown} == {pod.id, ""}
    assert site.at[0] - 1000.0 <= 60.0


def test_what_could_not_be_asked_for_is_not_said_to_be_denied(site: Site) -> None:
    pod = site.rent()
    site.lie("everything-500")
    (left,) = (left for left in site.prove(pod.id).unknown if left.id)
    assert left.why.startswith("whether it is there is not told, and ending it failed: ") and "denied" not in left.why


def test_what_only_the_list_knows_is_found_and_ended_and_an_empty_list_is_not_trusted_too_early(site: Site) -> None:
    pod = site.rent()
    site.lie("list-empty", times=3)
    proof = site.prove(lease=pod.lease_id, trusted_from=site.at[0] + SETTLE)
    assert proof.proved and site.alive() == [] and site.at[0] >= 1000.0 + SETTLE


def test_a_cloud_that_cannot_even_be_asked_is_told_with_what_is_known_of_the_pods() -> None:
    proof = unasked([KnownPod("p1", 0.5)], "RUNPOD_API_KEY is not set")
    assert not proof.proved and "p1 ($0.50/h): RUNPOD_API_KEY is not set" in str(proof)
    assert not unasked([], "no key").proved
