"""A run's model cache against an emulated RunPod: chosen with its price, made before the pod, shown, deleted on demand only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard import yamlfile
from trainyard.clouds.protocol import OfferQuery, PodSpec
from trainyard.clouds.runpod import RunPodCloud
from trainyard.config import places
from trainyard.errors import RefusedError, StillThere
from trainyard.leases import cachevolume
from trainyard.ledger.rows import LedgerEvent
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.runs.context import CommandContext
from trainyard.runs.life.modelcache import mount_cache
from trainyard.runs.planning import modelcache
from trainyard.runs.planning.estimate import estimate, said_of
from trainyard.runs.planning.modelcache import CacheNeed, need_of
from trainyard.runs.records.cacheplan import CACHE_USED
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.notes import note_row
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import caches
from trainyard.settings.table import StackSettings

SETTINGS = StackSettings(cloud="runpod", gpu=("RTX 5090",), cache="auto", bucket="none", env_id="0123abcd")
NAME = "trainyard-cache-0123abcd-eu-ro-1"
NEED = CacheNeed("Qwen/Qwen3-8B", 16.0)


class Listening(Ui):
    """Keeps what is said, and agrees when it is told to."""

    def __init__(self) -> None:
        super().__init__(json=True)
        self.said: list[str] = []
        self.agrees = False

    def say(self, text: str) -> None:
        self.said.append(text)

    warn = fail = say

    def agreed(self, question: str) -> bool:
        return self.agrees

    @contextlib.contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        yield


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = start(RUNPOD, tmp_path_factory.mktemp("rp"), timing=Timing(provisioning=1e9), limits={"minute": 10**6}, env={})
    yield emulator
    emulator.stop(end_pods=True)


@pytest.fixture
def account(paper: Emulator) -> Iterator[Emulator]:
    yield paper
    paper.faults.off()
    for record in paper.fleet.all():
        paper.fleet.delete(record["id"], "after a test")
    paper.fleet.ledger.save_account({})


@pytest.fixture
def ui() -> Listening:
    return Listening()


@pytest.fixture
def context(account: Emulator, tmp_path: Path, ui: Listening, monkeypatch: pytest.MonkeyPatch) -> CommandContext:
    monkeypatch.setattr(cachevolume, "_POLL", 0.0)
    text = "config:\n  trainyard:cloud: runpod\n  trainyard:cache: auto\n  trainyard:env_id: 0123abcd\n"
    (tmp_path / "Pulumi.runpod.yaml").write_text(text.replace("0123abcd", "'0123abcd'"))
    env = {**account.env, "XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path), "RUNPOD_SETTLE_SECONDS": "0.2"}
    return CommandContext(places(tmp_path, env), env | {"RUNPOD_POST_SECONDS": "5"}, ui)


@pytest.fixture
def cloud(context: CommandContext) -> RunPodCloud:
    cloud = context.cloud("runpod")
    assert isinstance(cloud, RunPodCloud)
    return cloud


def begin(context: CommandContext, cloud: RunPodCloud, label: str = "a", need: CacheNeed = NEED) -> tuple[RunRecord, RunFolder]:
    """Plan a run's cache and let it be made, as it is before a pod is rented."""
    _, plan = modelcache.plan(context, cloud, "runpod", SETTINGS, need, 1.0)
    record = RunRecord("ann", label, 1, "runpod", "lora", {}, "0" * 64, 1.0, time.time(), cloud="runpod", cache=plan)
    folder = RunFolder(record.id.folder(context.places.runs))
    folder.path.mkdir(parents=True)
    folder.config.write_text(yamlfile.dump({"config": {"trainyard:run": str(record.id)}}))
    note_row(context, record, 1.0)
    mount_cache(context, record, folder)
    return record, folder


def over(context: CommandContext, record: RunRecord) -> None:
    record.phase, record.ended = "ended", time.time()
    note_row(context, record)


def test_a_new_cache_is_planned_where_the_first_offer_is_and_told_with_its_price(context: CommandContext, cloud: RunPodCloud) -> None:
    settings, plan = modelcache.plan(context, cloud, "runpod", SETTINGS, NEED, 1.0)
    assert plan is not None and (plan.name, plan.place, plan.size_gb, plan.volume) == (NAME, "EU-RO-1", 40, None)
    assert settings.regions == ("EU-RO-1",) and not cloud.volumes().list()
    said = said_of(estimate(cloud, settings, 1.0, (), plan))[1]
    expected = (
        f"cache      {NAME} to be made in EU-RO-1: 40 GB, $2.80 a month ($0.09 a day), with or without a pod; 1 of 3 offers are there"
    )
    assert said.startswith(expected)


@pytest.mark.parametrize("settings", [replace(SETTINGS, cache="none"), replace(SETTINGS, volume="mine")])
def test_without_the_setting_and_beside_a_volume_of_ones_own_there_is_no_cache(
    context: CommandContext, cloud: RunPodCloud, settings: StackSettings
) -> None:
    assert modelcache.plan(context, cloud, "runpod", settings, NEED, 1.0) == (settings, None)


def test_a_bucket_that_is_a_network_volume_leaves_no_room_for_a_cache(context: CommandContext, cloud: RunPodCloud) -> None:
    keys = {"RUNPOD_S3_ACCESS_KEY": "user_x", "RUNPOD_S3_SECRET_KEY": "rps_x", "RUNPOD_S3_ENDPOINT": "https://s3api-eu-ro-1.runpod.io/"}
    context = replace(context, env={**context.env, **keys})
    with pytest.raises(RefusedError, match="a pod mounts one volume only"):
        modelcache.plan(context, cloud, "runpod", replace(SETTINGS, store="runpod", bucket="vol1"), NEED, 1.0)


def test_the_size_is_that_of_all_bases_and_the_cache_grows_with_them(context: CommandContext, cloud: RunPodCloud) -> None:
    first, _ = begin(context, cloud)
    again, _ = begin(context, cloud, "b")
    other, folder = begin(context, cloud, "c", CacheNeed("big/Model-70B", 140.0))
    assert [run.cache and run.cache.size_gb for run in (first, again, other)] == [40, 40, 180]
    (volume,) = cloud.volumes().list()
    assert volume.size_gb == 180 and volume.id in folder.config.read_text()


@pytest.mark.parametrize(
    ("values", "needs", "gb"),
    [({"base_model": "Qwen/Qwen3-8B"}, {"disk_gb": 100}, 16), ({"base_model": "me/x"}, {"disk_gb": 90}, 90), ({}, {}, 50)],
)
def test_what_a_run_downloads_is_its_bases_weights_else_what_its_recipe_needs(
    values: dict[str, str], needs: dict[str, int], gb: float
) -> None:
    assert need_of("r", needs, values).gb == gb  # type: ignore[arg-type]


def test_where_the_cache_has_no_offer_the_run_goes_without_and_no_second_is_made(
    context: CommandContext, cloud: RunPodCloud, account: Emulator, ui: Listening
) -> None:
    begin(context, cloud)
    account.faults.on("sold-out", what=["NVIDIA GeForce RTX 5090@EU-RO-1"])
    settings, plan = modelcache.plan(context, cloud, "runpod", SETTINGS, NEED, 1.0)
    assert plan is None and settings == SETTINGS
    assert ui.said[-1] == "model cache: it lies in EU-RO-1, where nothing that fits is to be had now; this run goes without it"


def test_a_cache_that_cannot_be_had_ends_no_run_and_stays_decided(
    context: CommandContext, cloud: RunPodCloud, account: Emulator, ui: Listening
) -> None:
    account.faults.on("create-no-balance", times=1)
    record, folder = begin(context, cloud)
    assert record.cache is None and folder.load().cache is None and "this run goes without it" in ui.said[-1]
    before = folder.config.read_text()
    mount_cache(context, folder.load(), folder)  # who takes the run up again
    assert folder.config.read_text() == before and not cloud.volumes().list()


def test_a_controller_that_takes_the_run_up_again_mounts_the_same_volume(context: CommandContext, cloud: RunPodCloud) -> None:
    record, folder = begin(context, cloud)
    before = folder.config.read_text()
    mount_cache(context, folder.load(), folder)
    assert folder.load().cache == record.cache and folder.config.read_text() == before and len(cloud.volumes().list()) == 1


def test_the_caches_are_listed_with_price_last_run_and_who_mounts_them(context: CommandContext, cloud: RunPodCloud) -> None:
    record, _ = begin(context, cloud)
    assert record.cache is not None
    spec = PodSpec("theirs", "", "", None, None, image="x", volume=record.cache.volume)
    pod = cloud.create(spec, cloud.offers(OfferQuery(gpus=("RTX 5090",), volume=record.cache.volume))[0])
    cloud.volumes().create("trainyard-cache-ffffffff-eu-ro-1", "EU-RO-1", 10)
    cloud.volumes().create("data-of-mine", "EU-RO-1", 10)
    code, rows = caches.survey(context, None)
    text = "\n".join(caches.cache_lines(rows))
    assert code == 0 and [row.ours for row in rows] == [True, False]
    assert f"$2.80/month  runpod {NAME}: {record.cache.volume} in EU-RO-1, 40 GB" in text
    assert f" ago by ann/a; mounted by {pod.id}; in use by ann/a" in text
    assert "trainyard-cache-ffffffff-eu-ro-1" in text and "of another environment" in text and "data-of-mine" not in text
    assert text.endswith("in all $3.50 a month")
    assert caches.cache_lines([replace(rows[0], per_month=None), rows[1]])[-1] == "in all $0.70 a month, and 1 whose price is not told"


def test_clean_deletes_what_nothing_uses_and_nothing_else(context: CommandContext, cloud: RunPodCloud, ui: Listening) -> None:
    cloud.volumes().create("trainyard-cache-ffffffff-eu-ro-1", "EU-RO-1", 10)
    record, _ = begin(context, cloud)
    assert caches.clean(context, None, None, yes=True) == 0
    assert f"{NAME} stays: ann/a uses it" in ui.said and len(cloud.volumes().list()) == 2
    over(context, record)
    assert caches.clean(context, None, 24.0, yes=True) == 0 and len(cloud.volumes().list()) == 2  # used today
    with pytest.raises(RefusedError, match="nothing was deleted"):
        caches.clean(context, None, None, yes=False)
    assert len(cloud.volumes().list()) == 2
    ui.agrees = True
    assert caches.clean(context, None, None, yes=False) == 0
    assert [volume.name for volume in cloud.volumes().list()] == ["trainyard-cache-ffffffff-eu-ro-1"]
    assert f"{NAME} is gone" in ui.said


def test_clean_takes_only_what_was_not_used_for_so_long(context: CommandContext, cloud: RunPodCloud, ui: Listening) -> None:
    old = cloud.volumes().create(NAME, "EU-RO-1", 40)
    assert caches.clean(context, "runpod", 24.0, yes=True) == 0
    assert "when it was last used is not known here" in "\n".join(ui.said)
    data = {"cloud": "runpod", "name": NAME, "volume": old.id, "base": "b", "base_gb": 1.0}
    context.ledger().take([LedgerEvent(time.time() - 48 * 3600, RunId("ann", "z", 1), CACHE_USED, data)], mirrored=False)
    assert caches.clean(context, "runpod", 72.0, yes=True) == 0 and cloud.volumes().list()
    assert caches.clean(context, "runpod", 24.0, yes=True) == 0 and not cloud.volumes().list()


def test_a_cache_that_is_not_proved_gone_is_said_with_exit_code_6(context: CommandContext, cloud: RunPodCloud, account: Emulator) -> None:
    volume = cloud.volumes().create(NAME, "EU-RO-1", 40)
    account.faults.on("delete-ignored", times=1)
    with pytest.raises(StillThere, match=f"volume {volume.id} .* is not proved gone") as raised:
        caches.clean(context, "runpod", None, yes=True)
    assert raised.value.exit_code == 6 and raised.value.hint == "Again: invoke cache.clean --stack runpod"


def test_destroy_says_what_stays_and_deletes_it_only_when_asked(context: CommandContext, cloud: RunPodCloud, ui: Listening) -> None:
    cloud.volumes().create(NAME, "EU-RO-1", 40)
    assert caches.after_destroy(context, "runpod", remove=False) == 0
    assert ui.said == [f"model cache {NAME} stays at $2.80 a month; delete it: invoke cache.clean --stack runpod"]
    assert caches.after_destroy(context, "runpod", remove=True) == 0 and not cloud.volumes().list()
