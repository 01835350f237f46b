"""A run's pod is what its recipe needs, and is not rented again where one has just failed to boot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainyard.clouds.protocol import CostItem, Offer, OfferQuery
from trainyard.errors import NoCapacity, UserError
from trainyard.ledger.ledger import Ledger
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.summaries import Values
from trainyard.runs.planning import shape
from trainyard.runs.planning.estimate import estimate, query_of
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.storagecost import StorageCost
from trainyard.settings.table import StackSettings as Stack

ROOT = Path(__file__).resolve().parents[2]
RUN = RunId("ann", "a")
NEEDS: Values = {"vram_gb": 32, "disk_gb": 100, "gpus": 1, "cuda": "13.0"}


class OneAccount:
    """What an estimate asks of a cloud."""

    name = "toy"

    def __init__(self, *ids: str, volumes: Sequence[tuple[str, float]] = ()) -> None:
        self.found, self.volumes = [Offer(id, "toy", "H100", 1, 2.0) for id in ids], volumes
        self.asked: OfferQuery | None = None

    def offers(self, query: OfferQuery) -> list[Offer]:
        self.asked = query
        return self.found

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        return 0.0

    def costs(self) -> list[CostItem]:
        return [CostItem("volume", id, "data", month / 730, False) for id, month in self.volumes]


def account(*ids: str, volumes: Sequence[tuple[str, float]] = ()) -> Any:
    return OneAccount(*ids, volumes=volumes)


def test_an_estimate_is_of_all_pods_that_train_together() -> None:
    one, two = (estimate(account("a"), Stack(cloud="local", gpu=("H100",), nodes=nodes), 2.0) for nodes in (1, 2))
    assert two.most == 2 * one.most > 0
    assert two.text().startswith("2 pods, each 1x H100 at $2.00/h")


def test_pods_that_would_not_train_together_or_would_be_left_are_refused() -> None:
    lora, merge = (load_recipe(ROOT, name) for name in ("lora", "merge"))
    with pytest.raises(UserError, match="nodes: 2, and recipe merge trains on one pod"):
        shape.refuse_lone_pods(Stack(cloud="local", nodes=2), merge, "dev", detach=False)
    with pytest.raises(UserError, match="--detach: 2 pods"):
        shape.refuse_lone_pods(Stack(cloud="local", nodes=2), lora, "dev", detach=True)
    shape.refuse_lone_pods(Stack(cloud="local", nodes=2), lora, "dev", detach=False)
    shape.refuse_lone_pods(Stack(cloud="slurm", nodes=2), merge, "dev", detach=True)


def test_nodes_that_a_recipe_would_leave_idle_are_refused() -> None:
    with pytest.raises(UserError, match="nodes: 2, and the recipe trains on 1") as caught:
        shape.refuse_idle_nodes(Stack(nodes=2), {"nodes": 1}, "dev")
    assert "--stack dev" in str(caught.value.hint)
    shape.refuse_idle_nodes(Stack(), {"nodes": 1}, "dev")
    shape.refuse_idle_nodes(Stack(nodes=4), {}, "dev")


def test_the_needs_of_a_recipe_reach_the_question_that_the_cloud_is_asked() -> None:
    cloud = account("o")
    estimate(cloud, shape.raised(Stack(gpu=("H100",), disk_gb=50, volume="v"), NEEDS, "runpod"), 1.0)
    asked = cloud.asked
    assert (asked.min_cuda, asked.min_vram_gb, asked.volume) == ("13.0", 32, "v")


@pytest.mark.parametrize(("setting", "version"), [(None, "13.0"), ("12.8", "13.0"), ("13.1", "13.1"), ("9.9", "13.0")])
def test_the_higher_of_two_cuda_versions_counts(setting: str | None, version: str) -> None:
    assert shape.raised(Stack(gpu=("H100",), min_cuda=setting), NEEDS, "runpod").min_cuda == version


def test_a_cuda_version_that_is_none_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"needs.cuda must look like 13.0, not 'new'"):
        shape.raised(Stack(gpu=("H100",)), {**NEEDS, "cuda": "new"}, "runpod")


def test_larger_settings_are_kept_and_a_pod_without_gpu_has_no_driver() -> None:
    found = shape.raised(Stack(disk_gb=200), NEEDS, "runpod")
    assert found == Stack(disk_gb=200)
    assert shape.raised(Stack(gpu=("L4",), min_vram_gb=48), NEEDS, "runpod").min_vram_gb == 48
    assert query_of(found).min_cuda is None


def test_variables_of_older_guides_win_over_the_file_and_are_told() -> None:
    env = {"RUNPOD_GPU_TYPE": "NVIDIA GeForce RTX 5090", "RUNPOD_TEMPLATE_ID": "t1"}
    found, told = shape.from_environment(Stack(gpu=("H100",), image="i", disk_gb=50), env, "runpod")
    assert found == Stack(gpu=("NVIDIA GeForce RTX 5090",), template="t1", disk_gb=50)
    assert told == ["gpu: NVIDIA GeForce RTX 5090, as RUNPOD_GPU_TYPE says", "template: t1, as RUNPOD_TEMPLATE_ID says"]
    assert shape.from_environment(Stack(gpu=("H100",)), env, "local") == (Stack(gpu=("H100",)), [])


def test_this_machine_is_taken_as_it_is() -> None:
    assert shape.raised(Stack(gpu=("H100",)), NEEDS, "local") == Stack(gpu=("H100",))


def test_what_differs_from_the_settings_is_said() -> None:
    settings = Stack(gpu=("H100",), disk_gb=50, explicit=frozenset({"gpu", "disk_gb"}))
    shaped = shape.raised(settings, {**NEEDS, "gpus": 2}, "runpod")
    (disk,) = shape.warnings(settings, shaped, {**NEEDS, "gpus": 2})
    assert "needs 100 GB of disk" in disk and shaped.gpu_count == 2
    one = dataclasses.replace(settings, gpu_count=1, explicit=frozenset({"gpu_count"}))
    assert "needs 2 GPUs: so many are rented, not the 1 set" in shape.warnings(one, shaped, {**NEEDS, "gpus": 2})[0]
    none = Stack()
    assert "needs 2 GPUs, this stack rents 0" in shape.warnings(none, shape.raised(none, {"gpus": 2}, "runpod"), {"gpus": 2})[0]
    assert shape.warnings(Stack(gpu=("H100",)), shape.raised(Stack(gpu=("H100",)), {**NEEDS, "disk_gb": 500}, "runpod"), NEEDS) == []


def test_no_offer_says_what_narrows_the_choice() -> None:
    settings = shape.raised(Stack(gpu=("L4",), max_price=3, volume="v"), NEEDS, "runpod")
    says = r"1x L4 at \$3/h or less with 32 GB of memory each and a driver for CUDA 13.0 beside network volume v now"
    with pytest.raises(NoCapacity, match=says):
        estimate(account(), settings, 1.0)


def test_an_offer_that_did_not_boot_is_avoided_by_every_run_for_some_hours(tmp_path: Path) -> None:
    ledger, now = Ledger(tmp_path / "ledger.db"), 0.0
    shape.remember_failure(ledger, RUN, "toy", "bad", "not past phase 'image' after 10 minutes")
    shape.remember_failure(ledger, RUN, "other", "good", "not past phase 'image' after 10 minutes")
    now = ledger.events()[0].time
    failed = shape.failed_lately(ledger, "toy", now + 60)
    assert failed == ["bad"]
    told = estimate(account("bad", "good"), Stack(gpu=("H100",)), 1.0, failed)
    assert (told.offer.id, told.avoided) == ("good", ("bad",))
    assert shape.failed_lately(ledger, "toy", now + shape.REMEMBERED + 1) == []


def test_offers_that_are_named_are_estimated_in_the_order_in_which_they_are_tried() -> None:
    told = estimate(account("preferred", "cheapest", "other"), Stack(gpu=("H100",), only_offers=("cheapest", "gone", "preferred")), 1.0)
    assert told.offer.id == "cheapest"


def test_when_every_offer_has_failed_lately_none_is_avoided(tmp_path: Path) -> None:
    told = estimate(account("bad", "worse"), Stack(gpu=("H100",)), 1.0, ["bad", "worse"])
    assert (told.offer.id, told.avoided) == ("bad", ())


def test_the_estimate_tells_what_the_machines_owner_takes_for_traffic() -> None:
    at = account("o")
    at.found = [replace(at.found[0], gb_in=0.01, gb_out=0.02)]
    told = estimate(at, Stack(gpu=("H100",)), 1.0)
    assert told.text().endswith("at most $3.00; beside it what goes through the network, up to $0.01 a GB in and $0.02 a GB out")
    kept = StorageCost(store="R2", price_known=True, result_bytes=5 * 10**9)
    assert replace(told, storage=kept).text().endswith("$0.02 a GB out, $0.10 for the result")


def test_the_estimate_tells_what_the_network_volume_costs_a_month() -> None:
    told = estimate(account("o", volumes=[("v", 7.0), ("w", 9.0)]), Stack(gpu=("H100",), volume="v"), 1.0)
    assert told.text().endswith("at most $3.00; network volume v: $7.00 a month, with or without a pod")
    assert "network volume" not in estimate(account("o", volumes=[("v", 7.0)]), Stack(gpu=("H100",)), 1.0).text()
