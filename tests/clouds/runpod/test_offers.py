"""Offers from RunPod's catalog: the user's order, prices, stock, places, spot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.clouds.runpod.asking import WANTED, Make, first
from trainyard.clouds.protocol import OfferQuery
from trainyard.clouds.runpod import RunPodCloud
from trainyard.errors import UserError
from trainyard.rehearsal.kit import Emulator
from trainyard.rehearsal.runpod.furnish import add_volume


def test_offers_follow_the_users_order_of_gpus_in_any_spelling(cloud: RunPodCloud) -> None:
    offers = cloud.offers(OfferQuery(gpus=("H100_SXM", "NVIDIA GeForce RTX 5090", "rtx4090")))
    assert list(dict.fromkeys(offer.gpu for offer in offers)) == [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA GeForce RTX 5090",
        "NVIDIA GeForce RTX 4090",
    ]


def test_within_a_gpu_the_data_center_with_most_stock_comes_first(cloud: RunPodCloud) -> None:
    assert [offer.region for offer in cloud.offers(WANTED)] == ["EU-RO-1", "US-CA-2", "EUR-IS-1"]


def test_no_offer_is_above_the_highest_price_for_the_whole_pod(cloud: RunPodCloud) -> None:
    assert cloud.offers(OfferQuery(gpus=("RTX 5090",), gpu_count=2, max_price=1.87)) == []
    assert {o.price_per_hour for o in cloud.offers(OfferQuery(gpus=("RTX 5090",), gpu_count=2, max_price=1.88))} == {1.88}


def test_community_and_secure_have_prices_of_their_own(cloud: RunPodCloud) -> None:
    assert first(cloud, tier="COMMUNITY").price_per_hour < first(cloud, tier="SECURE").price_per_hour
    assert {offer.tier for offer in cloud.offers(replace(WANTED, tier="all"))} == {"SECURE", "COMMUNITY"}


@pytest.mark.parametrize(
    ("regions", "found"),
    [
        (("EU-RO-1",), {"EU-RO-1"}),
        (("eu",), {"EU-RO-1"}),
        (("EUROPE",), {"EU-RO-1", "EUR-IS-1"}),
        (("US", "EUR-IS-1"), {"US-CA-2", "EUR-IS-1"}),
        (("ASIA",), set()),
    ],
)
def test_regions_are_data_centers_countries_or_continents(cloud: RunPodCloud, regions: tuple[str, ...], found: set[str]) -> None:
    assert {offer.region for offer in cloud.offers(replace(WANTED, regions=regions))} == found


def test_what_is_sold_out_is_not_offered(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    rehearsal.faults.on("sold-out", what=["NVIDIA GeForce RTX 5090@EU-RO-1"])
    assert "EU-RO-1" not in {offer.region for offer in cloud.offers(WANTED)}
    rehearsal.faults.on("sold-out", what=["NVIDIA GeForce RTX 5090"])
    assert cloud.offers(WANTED) == []


def test_only_machines_whose_driver_carries_the_cuda_version_are_offered_and_asked_for(
    cloud: RunPodCloud, rehearsal: Emulator, spec: Make
) -> None:
    wanted = OfferQuery(gpus=("RTX 4090",), min_cuda="13.0")
    offers = cloud.offers(wanted)
    assert {offer.region for offer in offers} == {"EU-RO-1"}
    record = rehearsal.fleet.get(cloud.create(spec(), offers[0]).id)
    assert record is not None and record["request"]["gpu"]["minCudaVersion"] == "13.0"
    assert cloud.offers(replace(wanted, min_cuda="14.0")) == []


def test_a_spot_pod_asks_for_no_driver_that_is_too_old_either(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    offer = cloud.offers(OfferQuery(gpus=("RTX 4090",), min_cuda="12.9", spot=True))[0]
    record = rehearsal.fleet.get(cloud.create(spec(), offer).id)
    assert record is not None and record["spot"] and record["request"]["gpu"]["minCudaVersion"] == "12.9"


def test_a_gpu_with_less_memory_than_the_recipe_needs_is_not_offered(cloud: RunPodCloud) -> None:
    wanted = OfferQuery(gpus=("RTX 4090", "RTX 5090", "H100 SXM"))
    large = cloud.offers(replace(wanted, min_vram_gb=32))
    assert {offer.gpu for offer in large} == {"NVIDIA GeForce RTX 5090", "NVIDIA H100 80GB HBM3"}
    assert cloud.offers(replace(wanted, min_vram_gb=90)) == []


def test_with_a_network_volume_only_its_data_center_is_offered(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    volume = add_volume(rehearsal, "vol1", "EU-RO-1")
    assert {offer.region for offer in cloud.offers(replace(WANTED, volume=volume))} == {"EU-RO-1"}
    with pytest.raises(UserError, match="lies in EU-RO-1, which 'regions' leaves out"):
        cloud.offers(replace(WANTED, volume=volume, regions=("US",)))
    with pytest.raises(UserError, match="has no network volume 'vol2'"):
        cloud.offers(replace(WANTED, volume="vol2"))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (OfferQuery(gpus=("RTX 9090",)), "RTX 9090"),
        (OfferQuery(gpus=("RTX 5090",), regions=("MARS",)), "MARS"),
        (OfferQuery(gpus=("RTX 5090",), tier="FREE"), "FREE"),
    ],
)
def test_a_name_nobody_knows_is_the_users_error(cloud: RunPodCloud, query: OfferQuery, says: str) -> None:
    with pytest.raises(UserError, match=says):
        cloud.offers(query)


def test_a_pod_without_gpu_is_offered_cheapest_first(cloud: RunPodCloud, spec: Make) -> None:
    offers = cloud.offers(OfferQuery())
    assert offers[0].gpu is None and offers == sorted(offers, key=lambda o: o.price_per_hour)
    assert cloud.create(spec(), offers[0]).gpu is None


def test_spot_offers_carry_the_spot_price_and_are_rented_over_graphql(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    offer = first(cloud, spot=True)
    assert offer.spot and offer.price_per_hour == 0.53
    quoted = spec(env={"TRICKY": 'quotes " and {braces} $x \\'})
    info = cloud.create(quoted, offer)
    assert (info.name, info.lease_id, info.end) == (quoted.name, quoted.lease_id, quoted.end)
    record = rehearsal.fleet.get(info.id)
    assert record is not None and record["spot"] and record["request"]["env"]["TRICKY"] == quoted.env["TRICKY"]


def test_a_spot_pod_is_held_to_its_limit_at_its_spot_price_and_not_at_the_catalogs(cloud: RunPodCloud) -> None:
    assert first(cloud, spot=True, max_price=0.53).price_per_hour == 0.53
    assert cloud.offers(replace(WANTED, spot=True, max_price=0.52)) == []
