"""What is asked of the marketplace, and what is made of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.clouds.runpod.scripted import Say
from tests.clouds.vast.conftest import Bench, refused
from trainyard.clouds.protocol import OfferQuery
from trainyard.clouds.vast import offers
from trainyard.clouds.vast.request import ask_of
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, UserError

Serve = Callable[..., Bench]
ASKED = OfferQuery(gpus=("RTX_4090",), disk_gb=100)
CATALOG = Say(
    200, {"success": True, "gpus": [{"gpu_name": name} for name in ("RTX 4090", "A100 SXM4", "A100 PCIE", "T4", "B999", "H100 SXM")]}
)


def ask(**changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "id": 1, "gpu_name": "RTX 4090", "num_gpus": 1, "gpu_ram": 24564, "dph_base": 0.40, "dph_total": 0.42, "min_bid": 0.2,
        "storage_cost": 0.15, "rentable": True, "geolocation": "Stockholm, SE", "verification": "verified",
    }  # fmt: skip
    return {**given, **changes}


def found(*rows: dict[str, object]) -> Say:
    return Say(200, {"offers": list(rows)})


def searched(bench: Bench) -> dict[str, object]:
    assert bench.asked == ["GET /api/v0/metrics/gpu/current/", "POST /api/v0/bundles/"]
    return json.loads(bench.server.asked[1][3])  # type: ignore[no-any-return]


def test_a_search_asks_for_what_a_run_needs_and_for_its_whole_lease(serve: Serve) -> None:
    bench = serve(CATALOG, found(ask()))
    query = replace(ASKED, hours=2.5, max_price=3.0, min_cuda="12.8", regions=("de", "NA_", "OCEANIA")[:1], reliability=0.98, inet_down=500)
    (offer,) = bench.cloud.offers(query)
    body = searched(bench)
    assert body["gpu_name"] == {"in": ["RTX 4090"]} and body["type"] == "ondemand" and body["allocated_storage"] == 100
    assert (body["num_gpus"], body["rentable"], body["verified"]) == ({"eq": 1}, {"eq": True}, {"eq": True})
    assert body["duration"] == {"gte": 2.5 * 3600 + 600}, "a contract that ends first stops the pod"
    assert body["direct_port_count"] == {"gte": 1} and body["disk_space"] == {"gte": 100} and body["dph_total"] == {"lte": 3.0}
    assert (body["reliability"], body["inet_down"], body["cuda_max_good"]) == ({"gte": 0.98}, {"gte": 500}, {"gte": 12.8})
    assert body["inet_up_cost"] == body["inet_down_cost"] == {"lte": 0.03}, "traffic is in no estimate"
    assert body["geolocation"] == {"in": ["DE"]} and body["cpu_arch"] == {"eq": "amd64"}
    assert (offer.id, offer.gpu, offer.price_per_hour, offer.region, offer.cloud) == ("1", "RTX 4090", 0.42, "SE", "vast")


@pytest.mark.parametrize(
    ("tier", "expected"),
    [(None, {"verified"}), ("COMMUNITY", {"verified"}), ("SECURE", {"verified", "datacenter"}), ("ALL", set())],
)
def test_tiers_are_datacenters_verified_hosts_and_all(tier: str | None, expected: set[str]) -> None:
    assert {"verified", "datacenter"} & offers.search_body(replace(ASKED, tier=tier), ["RTX 4090"]).keys() == expected


def test_gpus_come_in_the_order_of_preference_and_each_by_its_price(serve: Serve) -> None:
    rows = [ask(id=1, dph_total=0.5), ask(id=2, dph_total=0.3), ask(id=3, gpu_name="H100 SXM", gpu_ram=81559, dph_total=2.0)]
    bench = serve(CATALOG, found(*rows))
    assert [offer.id for offer in bench.cloud.offers(replace(ASKED, gpus=("H100", "4090")))] == ["3", "2", "1"]


def test_an_offer_tells_what_its_host_takes_for_traffic(serve: Serve) -> None:
    [offer] = serve(CATALOG, found(ask(inet_down_cost=0.002, inet_up_cost=0.02))).cloud.offers(ASKED)

    assert (offer.gb_in, offer.gb_out) == (0.002, 0.02)


def test_one_name_of_two_memories_is_told_apart_by_what_the_driver_reports(serve: Serve) -> None:
    rows = [
        ask(id=1, gpu_name="A100 SXM4", gpu_ram=40960),
        ask(id=2, gpu_name="A100 SXM4", gpu_ram=81920),
        ask(id=3, gpu_name="A100 PCIE", gpu_ram=81920),
    ]
    for gpu, ids in (("A100 80GB", {"2", "3"}), ("A100 SXM 40GB", {"1"}), ("A100", {"1", "2", "3"})):
        bench = serve(CATALOG, found(*rows))
        assert {offer.id for offer in bench.cloud.offers(replace(ASKED, gpus=(gpu,)))} == ids, gpu
    bench = serve(CATALOG, found(*rows))
    assert {offer.id for offer in bench.cloud.offers(replace(ASKED, gpus=("A100",), min_vram_gb=80))} == {"2", "3"}


def test_a_driver_that_reports_less_than_the_maker_states_is_enough(serve: Serve) -> None:
    bench = serve(CATALOG, found(ask(gpu_name="T4", gpu_ram=15360)))
    assert len(bench.cloud.offers(replace(ASKED, gpus=("T4",), min_vram_gb=16))) == 1


def test_a_gpu_that_only_the_marketplace_knows_is_found_by_its_name_and_an_unknown_one_is_said(serve: Serve) -> None:
    assert len(serve(CATALOG, found(ask(gpu_name="B999"))).cloud.offers(replace(ASKED, gpus=("b999",)))) == 1
    with pytest.raises(UserError, match="no GPU is called 'RTX 4091'"):
        serve(CATALOG).cloud.offers(replace(ASKED, gpus=("RTX 4091",)))
    assert serve(CATALOG).cloud.offers(replace(ASKED, gpus=("RTX 3090",))) == []


def test_a_bid_is_above_the_least_one_and_its_price_has_the_disk_in_it(serve: Serve) -> None:
    bench = serve(CATALOG, found(ask(min_bid=0.2, dph_base=0.2, dph_total=0.2208)))
    (offer,) = bench.cloud.offers(replace(ASKED, spot=True))
    assert searched(bench)["type"] == "bid" and offer.spot
    assert ask_of(offer) == ("1", 0.22) and offer.price_per_hour == pytest.approx(0.22 + 100 * 0.15 / 720, abs=1e-5)
    assert bench.cloud.disks_per_hour(100, gpu=True, volume=False) == 0.0


@pytest.mark.parametrize(
    "bad",
    [
        {"rentable": False}, {"num_gpus": 2}, {"dph_total": 0}, {"dph_total": None}, {"dph_total": float("nan")}, {"id": None},
        {"gpu_name": None}, {"dph_total": 3.2},
    ],
)  # fmt: skip
def test_what_cannot_be_rented_as_asked_is_no_offer(serve: Serve, bad: dict[str, object]) -> None:
    assert serve(CATALOG, found(ask(**bad))).cloud.offers(replace(ASKED, max_price=3.0)) == []


def test_a_bid_above_the_highest_price_is_none_though_the_least_bid_is_below_it(serve: Serve) -> None:
    assert serve(CATALOG, found(ask(min_bid=0.2))).cloud.offers(replace(ASKED, spot=True, max_price=0.21)) == []
    assert serve(CATALOG, found(ask(min_bid=None))).cloud.offers(replace(ASKED, spot=True)) == []


def test_regions_are_countries_and_words_for_several_of_them() -> None:
    assert offers.countries(("de", "SE")) == ("DE", "SE")
    assert (
        {"DE", "FR"} <= set(offers.countries(("EU",))) and "GB" in offers.countries(("Europe",)) and "GB" not in offers.countries(("EU",))
    )
    assert offers.countries(("north_america",)) == ("CA", "MX", "US")
    with pytest.raises(UserError, match="no region 'ATLANTIS'"):
        offers.countries(("Atlantis",))


def test_a_pod_without_gpu_is_refused_before_anything_is_asked(serve: Serve) -> None:
    bench = serve(CATALOG)
    with pytest.raises(UserError, match="without a GPU"):
        bench.cloud.offers(OfferQuery())
    assert bench.asked == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Say(429, {"success": False, "error": "search_quota_exceeded", "msg": "x"}), CloudRefused),
        (refused(400, "invalid_request"), CloudRefused),
        (Say(404, {"error": "auth_error", "msg": "Invalid user key"}), CloudRefused),
        (Say(200, {"offers": {"id": 1}}), CloudUnknown),
        (Say(200, {}), CloudUnknown),
        (Say(200, raw=b"<html>"), CloudUnknown),
    ],
)
def test_an_answer_without_offers_is_an_error_and_a_spent_quota_is_not_asked_again(
    serve: Serve, answer: Say, error: type[CloudError]
) -> None:
    bench = serve(CATALOG, answer)
    with pytest.raises(CloudError) as raised:
        bench.cloud.offers(ASKED)
    assert type(raised.value) is error and bench.asked.count("POST /api/v0/bundles/") == 1
