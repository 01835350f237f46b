"""Vast.ai's emulator: its answers are of the specification, its traps are met by the adapter, its pods are real."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

import tests.clouds.vast
from tests.clouds.played import specification
from tests.rehearsal.conftest import QUICK, eventually, make_foreign, make_spec
from tests.rehearsal.test_pods import watchdog
from trainyard.clouds.http import Pace
from trainyard.clouds.protocol import Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.vast import VastCloud
from trainyard.clouds.vast.offers import search_body
from trainyard.clouds.vast.request import create_body
from trainyard.errors import CloudError, CloudRefused, NoCapacity, UnwantedPod
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.rehearsal.vast import VAST
from trainyard.rehearsal.vast.emulated import TRAPS

ASKED = OfferQuery(gpus=("RTX 5090",), hours=1)
SPEC = specification(Path(tests.clouds.vast.__file__).parent)
FREE = {window.name: 10**6 for window in VAST.limits}


@pytest.fixture(scope="module")
def module_paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = start(VAST, tmp_path_factory.mktemp("vast"), timing=Timing(provisioning=1e9), limits=FREE, env={})
    yield emulator
    emulator.stop(end_pods=True)


@pytest.fixture
def paper(module_paper: Emulator) -> Iterator[Emulator]:
    """An emulator whose pods never start, with no pod and no fault."""
    yield module_paper
    module_paper.faults.off()
    for record in module_paper.fleet.all():
        module_paper.fleet.delete(record["id"], "after a test")


@pytest.fixture
def cloud(paper: Emulator) -> Iterator[VastCloud]:
    cloud = VastCloud.from_env({**paper.env, "VAST_HASTE": "1000000"})
    cloud._api.pace = Pace(time.monotonic, lambda seconds: None)
    yield cloud
    cloud.close()


def rent(cloud: VastCloud, spec: PodSpec | None = None, **query: Any) -> PodInfo:
    return cloud.create(spec or make_spec(), cloud.offers(replace(ASKED, **query))[0])


def test_the_search_has_the_flaws_of_a_marketplace_and_the_query_leaves_them_out(cloud: VastCloud) -> None:
    assert [offer.id for offer in cloud.offers(ASKED)] == ["2102", "2101"]  # no ports, unreliable, over in minutes, dear traffic: left out
    assert [offer.id for offer in cloud.offers(replace(ASKED, reliability=0.98))] == ["2101"]
    assert {offer.id for offer in cloud.offers(replace(ASKED, hours=None, reliability=0.0))} == {"2101", "2102", "2103", "2105"}
    assert [offer.id for offer in cloud.offers(replace(ASKED, gpus=("A100 80GB",)))] == ["2402"]
    assert [offer.region for offer in cloud.offers(replace(ASKED, gpus=("RTX 4090",), regions=("EU", "NO")))] == ["NO"]
    assert [offer.id for offer in cloud.offers(replace(ASKED, gpus=("RTX 4090",), tier="SECURE"))] == ["2203"]
    assert "2204" not in {offer.id for offer in cloud.offers(replace(ASKED, gpus=("RTX 4090",), min_cuda="12.8"))}
    assert [offer.gpu_count for offer in cloud.offers(replace(ASKED, gpu_count=2))] == [2]


def test_an_offer_that_was_rented_meanwhile_is_no_capacity_and_is_not_found_again(cloud: VastCloud) -> None:
    first, second = cloud.offers(ASKED)
    cloud.create(make_spec(), first)
    with pytest.raises(NoCapacity, match="no_such_ask"):
        cloud.create(make_spec(), first)
    assert cloud.offers(ASKED) == [second]


def test_a_bid_below_the_least_one_makes_an_instance_that_is_told(cloud: VastCloud, paper: Emulator) -> None:
    with pytest.raises(UnwantedPod) as raised:
        cloud.create(make_spec(), Offer("2101@0.05", "vast", "RTX 5090", 1, 0.07, spot=True))
    (pod,) = cloud.list()
    assert (pod.id, pod.status, pod.raw_status) == (raised.value.pod_id, "exited", "outbid")
    cloud.terminate(pod.id)
    info = rent(cloud, spot=True)
    assert info.price_per_hour == pytest.approx(0.33 + 100 * 0.20 / 720, abs=1e-5)


TRAP_OUTCOMES: dict[str, type[CloudError] | None] = {
    "create-makes-one-all-the-same": UnwantedPod, "create-410": NoCapacity, "create-too-frequent": None, "list-too-frequent": None,
    "delete-too-frequent": None, "get-key-404": CloudRefused, "search-quota": CloudRefused, "delete-no-such-instance": None,
}  # fmt: skip


@pytest.mark.parametrize("trap", [trap.name for trap in TRAPS])
def test_each_of_its_own_traps_is_met(cloud: VastCloud, paper: Emulator, trap: str) -> None:
    def story() -> None:
        made = rent(cloud)
        assert cloud.get(made.id) is not None and [pod.id for pod in cloud.list()] == [made.id]
        cloud.terminate(made.id)

    paper.faults.on(trap, times=1)
    error = TRAP_OUTCOMES[trap]
    if error is None:
        story()
    elif trap == "get-key-404":
        record = paper.fleet.get(rent(cloud).id)  # a price that cannot be read is the offer's
        assert record is not None and cloud.get(record["id"]) is not None
    else:
        with pytest.raises(error):
            story()
    if trap != "get-key-404":
        assert len(paper.fleet.all()) == (trap in ("delete-no-such-instance", "create-makes-one-all-the-same")), (
            "what that word hides, only a list and a look by id tell"
        )


def test_all_instances_are_listed_however_many_pages_they_have(cloud: VastCloud, paper: Emulator) -> None:
    rent(cloud)
    (record,) = paper.fleet.all()
    for number in range(60):
        paper.fleet.ledger.save({**record, "id": str(20_000_000 + number)})
    assert len(cloud.list()) == 61
    assert sum(line.get("call") == "list" for line in paper.requests()[-3:]) == 3


def test_outbid_offline_and_ends_that_were_changed_are_told_as_such(cloud: VastCloud, paper: Emulator) -> None:
    made = rent(cloud, spot=True)
    for how, status, word in (("outbid", "exited", "outbid"), ("offline", "unknown", "offline"), ("exited", "exited", "exited")):
        paper.faults.on("lie-list", times=1, how=how)
        (pod,) = cloud.list()
        assert (pod.status, pod.raw_status, pod.ssh, pod.lease_id) == (status, word, None, made.lease_id)
    for how in ("end missing", "end unreadable"):
        paper.faults.on("lie-list", times=1, how=how)
        (pod,) = cloud.list()
        assert pod.end_unreadable and pod.lease_id == made.lease_id
    paper.faults.on("lie-list", times=1, how="wrong types")
    (pod,) = cloud.list()
    assert (pod.id, pod.lease_id, pod.end) == (made.id, made.lease_id, made.end)


def test_a_pods_own_key_sees_and_ends_that_pod_alone(cloud: VastCloud, paper: Emulator) -> None:
    mine, other = rent(cloud), rent(cloud, gpus=("RTX 4090",))
    record = paper.fleet.get(mine.id)
    assert record is not None
    narrow = VastCloud.from_env({**paper.env, "VAST_API_KEY": record["key"], "VAST_HASTE": "1000000"})
    assert narrow.get(mine.id) is not None
    for call in (lambda: narrow.get(other.id), lambda: narrow.terminate(other.id), narrow.list, narrow.account):
        with pytest.raises(CloudRefused):
            call()
    narrow.terminate(mine.id)
    assert [pod.id for pod in cloud.list()] == [other.id]


def test_the_bill_of_an_instance_is_that_of_the_books(cloud: VastCloud, paper: Emulator) -> None:
    made = rent(cloud)
    record = paper.fleet.get(made.id)
    assert record is not None
    before = cloud.account().balance
    paper.fleet.ledger.note("unpaid", record, paper.fleet.now() + 36000)
    assert cloud.billed(made.id) == pytest.approx(10 * (made.price_per_hour or 0), abs=0.01)
    assert before - cloud.account().balance == pytest.approx(cloud.billed(made.id), abs=0.01)


@pytest.mark.parametrize(
    "query", [ASKED, replace(ASKED, spot=True, min_cuda="12.8", max_price=2.0, regions=("EU",), tier="SECURE", min_vram_gb=24)]
)
def test_what_is_asked_is_of_the_specification(query: OfferQuery) -> None:
    assert SPEC.wrong("POST /api/v0/bundles", "request", search_body(query, ["RTX 5090"])) == []
    for spec in (make_foreign(), make_spec(registry="-u a -p b c", ports=("22/tcp", "8888/http"), image=None)):
        for offer in (Offer("1", "vast", "RTX 5090", 1, 0.5), Offer("1@0.22", "vast", "RTX 5090", 1, 0.5)):
            assert SPEC.wrong("PUT /api/v0/asks/{id}", "request", create_body(spec, offer, "https://console.vast.ai")) == []


def test_what_is_answered_is_of_the_specification(cloud: VastCloud, paper: Emulator) -> None:
    wrong: list[str] = []
    made = rent(cloud)
    days = json.dumps({"day": {"gte": 0, "lte": 2_000_000_000}})
    with httpx.Client(base_url=paper.url, headers={"Authorization": f"Bearer {paper.key}"}, trust_env=False) as api:

        def ask(method: str, path: str, status: int = 200, body: object = None, **params: str) -> None:
            answer = api.request(method, path, json=body, params=params)
            assert answer.status_code == status, answer.text
            operation = SPEC.operation(method, path.rstrip("/"))
            assert operation is not None, path
            wrong.extend(SPEC.wrong(operation, str(status), answer.json()))

        for phase in ("PROVISIONING", "STARTING", "EXITED", "ERROR"):
            record = paper.fleet.get(made.id)
            assert record is not None
            record["status"] = phase
            ask("GET", f"/api/v0/instances/{made.id}/")
            ask("GET", "/api/v1/instances/", limit="25")
        ask("GET", "/api/v0/instances/1/")
        ask("GET", "/api/v1/instances/", 400, after_token="nonsense")
        ask("GET", "/api/v0/metrics/gpu/current/")
        ask("GET", "/api/v0/users/current/")
        ask("GET", "/api/v0/volumes/")
        ask("GET", "/api/v0/charges/", select_filters=days)
        ask("GET", "/api/v0/charges/", 400, select_filters="{}")
        ask("POST", "/api/v0/bundles/", body={"limit": 3})
        ask("POST", "/api/v0/bundles/", 400, body={"colour": {"eq": 1}})
        ask("PUT", "/api/v0/asks/2103/", body={"image": "x"})
        ask("PUT", "/api/v0/asks/2103/", 404, body={"image": "x"})
        ask("PUT", "/api/v0/asks/2104/", 400, body={})
        ask("PUT", "/api/v0/asks/2104/", 400, body={"image": "x", "onstart": "y" * 4049})
        ask("PUT", f"/api/v0/instances/{made.id}/", body={"label": "a"})
        ask("PUT", f"/api/v0/instances/{made.id}/", 400, body={"label": "a" * 1025})
        ask("PUT", "/api/v0/instances/1/", 404, body={"label": "a"})
        ask("PUT", f"/api/v0/instances/request_logs/{made.id}/", body={"tail": "5"})
        ask("DELETE", f"/api/v0/instances/{made.id}/")
        ask("DELETE", f"/api/v0/instances/{made.id}/", 404)
    assert wrong == []


def test_requests_in_haste_are_turned_away_and_the_client_keeps_the_pace(tmp_path: Path) -> None:
    emulator = start(VAST, tmp_path, timing=Timing(provisioning=1e9), env={})
    try:
        polite = VastCloud.from_env(emulator.env)
        made = rent(polite)
        with httpx.Client(headers={"Authorization": f"Bearer {emulator.key}"}, trust_env=False) as hasty:
            path = f"{emulator.url}/api/v0/instances/{made.id}/"
            ways = (partial(hasty.get, path), partial(hasty.put, path, json={"label": "a"}))
            # On a machine with much to do, nine requests are in no haste: it is gone on with until one is turned away.
            turned_away = [next(answer for _ in range(500) if (answer := way()).status_code == 429) for way in ways]
        assert [answer.text for answer in turned_away] == [
            '{"detail": "API requests too frequent: endpoint threshold=2.0"}',
            "API requests too frequent: endpoint threshold=1.0",
        ]
        assert all("Retry-After" not in answer.headers for answer in turned_away)
        assert [polite.get(made.id) is not None for _ in range(3)] == [True] * 3
    finally:
        emulator.stop(end_pods=True)


# --- real pods -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Iterator[Emulator]:
    """An emulator whose pods are real, in a folder with a short path: Unix sockets allow no long one."""
    folder = Path(tempfile.mkdtemp(prefix="va"))
    emulator = start(VAST, folder / "one", timing=QUICK, env={})
    yield emulator
    emulator.stop(end_pods=True)
    errors = folder / "one/errors.log"
    text = errors.read_text() if errors.exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    assert not text, text


def test_a_pod_boots_arms_its_watchdog_takes_a_moved_lease_and_ends_itself(real: Emulator, tmp_path: Path) -> None:
    cloud = VastCloud.from_env(real.env)
    made, over = rent(cloud, make_foreign(3600)), rent(cloud, make_spec(4), gpus=("RTX 4090",))
    assert over.end is not None
    later = over.end + timedelta(seconds=3)
    cloud.change_markers(over.id, later, later)
    infos: list[PodInfo] = []
    eventually(lambda: infos.append(cloud.get(made.id)) or (infos[-1] and infos[-1].ssh))  # type: ignore[func-returns-value, arg-type]
    info = infos[-1]
    eventually(lambda: watchdog(info, tmp_path).get("key_sees_pod"))
    status = watchdog(info, tmp_path)
    assert status["armed"] and status["pod_id"] == info.id and status["ways"] == ["Vast.ai"]

    eventually(lambda: over.id not in real.fleet.ledger.pods)  # its own watchdog, with its own key
    [paid] = [paid for paid in real.ledger() if paid.pod == over.id]
    assert paid.why == "deleted by its own key" and (paid.end or 0) >= later.timestamp(), "the label is read before the end is acted on"
    cloud.terminate(made.id)
    assert cloud.list() == []
