"""A model cache's network volume at RunPod: made once, found again, enlarged, deleted with proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.clouds.runpod.asking import WANTED, Make
from tests.clouds.runpod.scripted import TurnedPace
from trainyard.clouds.runpod import RunPodCloud
from trainyard.clouds.volumes import NetworkVolume, volumes_of
from trainyard.errors import CloudRefused, CloudUnknown, NoCapacity
from trainyard.leases.cachevolume import CacheMaker, CacheOrder
from trainyard.rehearsal.kit import Emulator

ORDER = CacheOrder("trainyard-cache-0123abcd-eu-ro-1", "EU-RO-1", 40)
Maker = Callable[..., CacheMaker]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def maker(cloud: RunPodCloud, pace: TurnedPace, tmp_path: Path, said: list[str]) -> Maker:
    """Return one controller's maker; each has its own folder of intents, as on a machine of its own, unless one is named."""

    def make(folder: str = "here", volumes: Any = None) -> CacheMaker:
        known = volumes or volumes_of(cloud)
        assert known is not None
        return CacheMaker(known, cloud.capabilities, tmp_path / folder, said.append, pace.now, pace.sleep)

    return make


def _listed(cloud: RunPodCloud) -> list[NetworkVolume]:
    return cloud.volumes().list()


def test_a_cache_is_made_once_and_found_by_whoever_asks_next(cloud: RunPodCloud, maker: Maker) -> None:
    made = maker().ensure(ORDER)
    assert (made.name, made.place, made.size_gb, round(made.per_month or 0.0, 2)) == (ORDER.name, "EU-RO-1", 40, 2.8)
    assert maker().ensure(ORDER) == maker("elsewhere").ensure(ORDER) == made
    assert _listed(cloud) == [made]


def test_a_cache_that_is_too_small_grows_and_never_shrinks(cloud: RunPodCloud, maker: Maker) -> None:
    made = maker().ensure(ORDER)
    larger = maker().ensure(replace(ORDER, size_gb=120))
    assert (larger.id, larger.size_gb, round(larger.per_month or 0.0, 2)) == (made.id, 120, 8.4)
    assert maker().ensure(replace(ORDER, size_gb=10)) == larger
    assert _listed(cloud) == [larger]


@pytest.mark.parametrize(
    "fault", ["create-hangs-after", "create-500-after", "create-reset-after", "create-without-id", "create-cut-answer"]
)
def test_a_cache_whose_answer_was_lost_is_found_by_its_name(cloud: RunPodCloud, rehearsal: Emulator, maker: Maker, fault: str) -> None:
    cloud._api.timeout = 0.5
    rehearsal.faults.on(fault, times=1, silent=0.2)
    volumes = replace(cloud.volumes(), post_timeout=2.0)
    made = maker(volumes=volumes).ensure(ORDER)
    assert _listed(cloud) == [made] == [maker().ensure(ORDER)]


def test_what_is_not_known_to_be_made_is_waited_for_by_the_next(
    cloud: RunPodCloud, rehearsal: Emulator, maker: Maker, pace: TurnedPace, tmp_path: Path
) -> None:
    rehearsal.faults.on("create-500-before", times=1)
    begun = pace.now()
    with pytest.raises(CloudUnknown, match=f"whether the volume {ORDER.name} was made is not known"):
        maker().ensure(ORDER)
    assert pace.now() - begun >= cloud.capabilities.post_timeout + cloud.capabilities.settle
    assert (tmp_path / "here" / f"{ORDER.name}.json").exists() and not _listed(cloud)
    made = maker().ensure(ORDER)
    assert _listed(cloud) == [made] and not (tmp_path / "here" / f"{ORDER.name}.json").exists()


@pytest.mark.parametrize("fault", ["create-no-capacity", "create-no-balance", "create-unauthorized"])
def test_a_refused_cache_leaves_nothing(cloud: RunPodCloud, rehearsal: Emulator, maker: Maker, tmp_path: Path, fault: str) -> None:
    rehearsal.faults.on(fault, times=1)
    with pytest.raises((CloudRefused, NoCapacity)):
        maker().ensure(ORDER)
    assert not _listed(cloud) and not (tmp_path / "here" / f"{ORDER.name}.json").exists()


class _KilledAfter:
    """Volumes whose maker dies as the answer to its create comes, before anything is written down."""

    def __init__(self, cloud: RunPodCloud) -> None:
        self.real = cloud.volumes()
        self.terms = self.real.terms
        self.list, self.places, self.per_month, self.grow, self.delete = (
            self.real.list, self.real.places, self.real.per_month, self.real.grow, self.real.delete,
        )  # fmt: skip

    def create(self, name: str, place: str, size_gb: float) -> NetworkVolume:
        self.real.create(name, place, size_gb)
        raise KeyboardInterrupt


def test_killed_between_create_and_record_the_cache_is_found_and_paid_once(
    cloud: RunPodCloud, maker: Maker, pace: TurnedPace
) -> None:  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        maker(volumes=_KilledAfter(cloud)).ensure(ORDER)
    begun = pace.now()
    (made,) = _listed(cloud)
    assert maker().ensure(ORDER) == made and _listed(cloud) == [made]
    assert pace.now() == begun  # it is listed: nothing is waited for


class _MeanwhileMade(_KilledAfter):
    """Volumes of which another machine makes the same one between our look and our create."""

    def create(self, name: str, place: str, size_gb: float) -> NetworkVolume:
        self.real.create(name, place, size_gb)
        return self.real.create(name, place, size_gb)


def test_of_two_made_at_once_the_lowest_id_is_the_cache_and_ours_goes(cloud: RunPodCloud, maker: Maker, said: list[str]) -> None:
    for _ in range(3):  # ids are random: either may be ours
        made = maker(volumes=_MeanwhileMade(cloud)).ensure(ORDER)
        left = _listed(cloud)
        assert made.id == min(volume.id for volume in left)
        assert len(left) == (1 if any("is deleted" in line for line in said) else 2)
        said.clear()
        assert maker().ensure(ORDER).id == made.id
        for volume in left:
            assert maker().remove(volume.id)
        said.clear()


class _MeanwhileRefused(_KilledAfter):
    """Volumes whose names are unique: another machine was quicker, and ours is refused."""

    def create(self, name: str, place: str, size_gb: float) -> NetworkVolume:
        self.real.create(name, place, size_gb)
        raise CloudRefused("a volume of this name exists")


def test_where_names_are_unique_who_is_refused_takes_the_others(cloud: RunPodCloud, maker: Maker, tmp_path: Path) -> None:
    taken = maker(volumes=_MeanwhileRefused(cloud)).ensure(ORDER)
    assert _listed(cloud) == [taken] and not (tmp_path / "here" / f"{ORDER.name}.json").exists()


def test_a_mounted_volume_names_its_pods(cloud: RunPodCloud, maker: Maker, spec: Make) -> None:
    made = maker().ensure(ORDER)
    offer = cloud.offers(replace(WANTED, volume=made.id))[0]
    pod = cloud.create(spec(volume=made.id), offer)
    assert _listed(cloud)[0].attached == (pod.id,)
    cloud.terminate(pod.id)
    assert _listed(cloud)[0].attached == ()


def test_only_the_list_proves_that_a_cache_is_gone(cloud: RunPodCloud, rehearsal: Emulator, maker: Maker, said: list[str]) -> None:
    made = maker().ensure(ORDER)
    rehearsal.faults.on("delete-ignored", times=1)
    assert not maker().remove(made.id) and _listed(cloud) == [made]
    rehearsal.faults.on("delete-500-after", times=1)
    assert maker().remove(made.id) and not _listed(cloud)
    assert maker().remove(made.id)


def test_caches_are_made_where_volumes_of_a_known_price_are(cloud: RunPodCloud) -> None:
    assert {"EU-RO-1", "US-CA-2"} <= cloud.volumes().places()
