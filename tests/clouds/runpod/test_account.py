"""The pods of the account: list, get, terminate, costs, clock, logs, settings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.clouds.runpod.asking import WANTED, Make, first, foreign
from trainyard.clouds.bootlog import boot_problem
from trainyard.clouds.runpod import RunPodCloud
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError
from trainyard.rehearsal.kit import Emulator

LIST_ERRORS = ["list-500", "list-hangs", "list-cut", "list-page", "list-v1-array", "everything-500"]


@pytest.mark.parametrize("fault", LIST_ERRORS)
def test_a_list_is_complete_or_an_error(cloud: RunPodCloud, rehearsal: Emulator, spec: Make, fault: str) -> None:
    cloud.create(spec(), first(cloud))
    rehearsal.faults.on(fault)
    if fault == "list-hangs":
        cloud._api.timeout = 0.05
    with pytest.raises(CloudError):
        cloud.list()


def test_items_listed_twice_count_once(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    cloud.create(spec(), first(cloud))
    rehearsal.faults.on("list-twice")
    assert len(cloud.list()) == 1


def test_an_unknown_status_is_unknown_and_no_crash(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    cloud.create(spec(), first(cloud))
    rehearsal.faults.on("list-unknown-status")
    [pod] = cloud.list()
    assert (pod.status, pod.raw_status) == ("unknown", "MIGRATING") and pod.lease_id


@pytest.mark.parametrize("fault", ["list-unknown-fields", "list-null-fields"])
def test_fields_that_come_and_go_do_not_break_a_list(cloud: RunPodCloud, rehearsal: Emulator, spec: Make, fault: str) -> None:
    wanted = spec()
    cloud.create(wanted, first(cloud))
    rehearsal.faults.on(fault)
    assert [pod.name for pod in cloud.list()] == [wanted.name]


def test_get_is_none_only_on_the_clouds_own_word(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    rehearsal.faults.on("get-404-page")
    with pytest.raises(CloudUnknown):
        cloud.get(made.id)
    rehearsal.faults.on("get-500")
    rehearsal.faults.off("get-404-page")
    with pytest.raises(CloudUnknown):
        cloud.get(made.id)
    rehearsal.faults.off()
    assert cloud.get("nosuchpod") is None


def test_a_bad_key_is_refused_by_name_on_every_call(rehearsal: Emulator) -> None:
    cloud = RunPodCloud.from_env({**rehearsal.env, "RUNPOD_API_KEY": "rpa_wrong"})
    for call in (cloud.list, lambda: cloud.get("x"), lambda: cloud.terminate("x"), lambda: cloud.offers(WANTED)):
        with pytest.raises(CloudRefused, match="bearer token") as raised:
            call()
        assert "rpa_wrong" not in str(raised.value)


def test_foreign_pods_are_listed_as_foreign(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    cloud.create(foreign(cloud, spec), first(cloud))
    [pod] = cloud.list()
    assert (pod.fence_id, pod.lease_id, pod.end_unreadable) == (None, None, False)


def test_our_mark_with_an_end_that_cannot_be_read_is_told_apart(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    record = rehearsal.fleet.get(made.id)
    assert record is not None
    record["request"]["env"]["TRAINYARD_END"] = "soon"
    [pod] = cloud.list()
    assert pod.end is None and pod.end_unreadable


def test_a_name_that_is_ours_is_enough_when_the_variables_are_hidden(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    wanted = spec()
    made = cloud.create(wanted, first(cloud))
    record = rehearsal.fleet.get(made.id)
    assert record is not None
    record["request"]["env"] = {}
    [pod] = cloud.list()
    assert (pod.fence_id, pod.lease_id, pod.end_unreadable) == (wanted.fence_id, wanted.lease_id, True)


TERMINATE_FAULTS: list[tuple[str, bool]] = [
    ("delete-500", True),
    ("delete-500-after", True),
    ("delete-hangs-before", True),
    ("delete-hangs-after", True),
    ("delete-reset-before", True),
    ("delete-404-page", True),
    ("delete-rate-limited", True),
]


@pytest.mark.parametrize(("fault", "gone"), TERMINATE_FAULTS)
def test_a_terminate_gets_through_a_passing_fault(cloud: RunPodCloud, rehearsal: Emulator, spec: Make, fault: str, gone: bool) -> None:
    made = cloud.create(spec(), first(cloud))
    rehearsal.faults.on(fault, times=2)
    if "hangs" in fault:
        cloud._api.timeout = 0.3
    cloud.terminate(made.id)
    assert (rehearsal.fleet.get(made.id) is None) is gone


def test_when_rest_cannot_end_a_pod_graphql_does(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    rehearsal.faults.on("delete-500")
    cloud.terminate(made.id)
    assert cloud.list() == [] and "GraphQL" in rehearsal.ledger()[-1].why


def test_when_nothing_can_end_a_pod_that_is_an_error_never_success(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    rehearsal.faults.on("everything-500")
    with pytest.raises(CloudUnknown):
        cloud.terminate(made.id)
    rehearsal.faults.off()
    rehearsal.faults.on("delete-forbidden")
    with pytest.raises(CloudRefused):
        cloud.terminate(made.id)


def test_a_pod_that_is_gone_already_is_success(cloud: RunPodCloud, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    cloud.terminate(made.id)
    cloud.terminate(made.id)
    cloud.terminate("nosuchpod")


@pytest.mark.parametrize("pod_id", ["", "../account", "a/b", "a?b", "a b"])
def test_an_id_that_is_none_never_reaches_a_path(cloud: RunPodCloud, pod_id: str) -> None:
    with pytest.raises(CloudRefused):
        cloud.terminate(pod_id)


def test_what_cannot_be_changed_without_a_restart_is_refused(cloud: RunPodCloud, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    assert not cloud.capabilities.change_markers
    with pytest.raises(CloudRefused, match="restarts the container"):
        cloud.change_markers(made.id, None, datetime.now(UTC))


def test_everything_that_costs_money_is_counted(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    volumes = [
        {"id": "v1", "name": "trainyard-cache", "size": 730, "dataCenter": "EU-RO-1", "type": "STANDARD"},
        {"id": "v2", "name": "theirs", "size": 1460, "dataCenter": "EU-RO-1", "type": "STANDARD"},
    ]
    rehearsal.fleet.ledger.save_account({"volumes": volumes})
    ours = cloud.create(spec(disk_gb=100), first(cloud))
    stopped = cloud.create(foreign(cloud, spec), first(cloud))
    rehearsal.fleet.act(stopped.id, "stop")
    found = {(item.kind, item.id): item for item in cloud.costs()}
    assert found["pod", ours.id].per_hour == 0.94 and found["pod", ours.id].ours
    assert found["stopped pod", stopped.id].per_hour == 0.0 and not found["stopped pod", stopped.id].ours
    assert found["disk", ours.id].per_hour == pytest.approx(120 * 0.10 / 730)
    assert found["disk", stopped.id].per_hour == pytest.approx(100 * 0.20 / 730)
    assert found["volume", "v1"].per_hour == pytest.approx(0.07) and found["volume", "v1"].ours
    assert found["volume", "v2"].per_hour == pytest.approx(0.10) and not found["volume", "v2"].ours
    rehearsal.fleet.ledger.save_account({})


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clouds_clock_counts_not_ours(cloud: RunPodCloud, rehearsal: Emulator, hours: int) -> None:
    rehearsal.faults.on("clock-ahead" if hours > 0 else "clock-behind")
    assert abs(cloud.now() - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(seconds=60)


def test_balance_and_bill_are_told(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    pod = cloud.create(spec(), first(cloud))
    told = cloud.account()
    assert told.billed is not None and cloud.billed("another") == 0.0 and 0.0 < cloud.billed(pod.id) <= told.billed + 0.01
    billed = sum(paid.cost(rehearsal.fleet.now()) for paid in rehearsal.ledger())
    assert (told.balance, told.per_hour) == (100.0, 0.94) and told.billed == pytest.approx(billed, rel=0.2)
    rehearsal.faults.on("graphql-500")
    with pytest.raises(CloudUnknown):
        cloud.account()


@pytest.mark.parametrize("fault", ["graphql-500", "graphql-null", "graphql-error"])
def test_an_unclear_spot_create_is_unknown(cloud: RunPodCloud, rehearsal: Emulator, spec: Make, fault: str) -> None:
    offer = first(cloud, spot=True)
    rehearsal.faults.on(fault)
    with pytest.raises(CloudUnknown):
        cloud.create(spec(), offer)


def test_a_bid_that_is_too_low_is_no_capacity(cloud: RunPodCloud, spec: Make) -> None:
    with pytest.raises(NoCapacity, match="bid"):
        cloud.create(spec(), replace(first(cloud, spot=True), price_per_hour=0.01))


def test_the_log_is_read_and_a_stream_that_never_ends_is_left(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    import trainyard.clouds.runpod.cloud as module

    rehearsal.faults.on("boot-stuck-provisioning", system=["pull image", "error pulling image: manifest unknown"])
    made = cloud.create(spec(), first(cloud))
    rehearsal.faults.off()
    record = rehearsal.fleet.get(made.id)
    assert record is not None
    record["system"], record["lost"] = ["pull image"], ["exec format error"]
    before, module.LOG_IDLE = module.LOG_IDLE, 0.2
    try:
        assert "another processor" in str(cloud.boot_problem(made.id))
    finally:
        module.LOG_IDLE = before
    with pytest.raises(CloudRefused, match="not found"):
        cloud.boot_problem("nosuchpod")


@pytest.mark.parametrize(
    ("system", "container", "says"),
    [
        (["create container x", "pull image", "error pulling image: manifest unknown"], [], "cannot be pulled"),
        (["error creating container: pull access denied for me/private, repository does not exist"], [], "registry credential"),
        (["toomanyrequests: You have reached your pull rate limit"], [], "cannot be pulled"),
        (["start container"], ["exec /entrypoint.sh: exec format error"], "another processor"),
        (["start container"] * 4, ["Traceback", "ImportError: no torch", ""], "again and again (4 times; its last line: ImportError"),
        (["failed to register layer: no space left on device"], [], "does not fit"),
        (["create container x", "pull image", "start container"], ["ready", "download failed, pulling again: fine"], None),
        (["start container", "start container"], [], None),
        ([], [], None),
    ],
)
def test_boot_failures_have_names(system: list[str], container: list[str], says: str | None) -> None:
    found = boot_problem(system, container)
    assert found is None if says is None else says in str(found)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({}, "RUNPOD_API_KEY"),
        ({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": "http://api.runpod.io/v2"}, "clear text"),
        ({"RUNPOD_API_KEY": "k", "RUNPOD_SETTLE_SECONDS": "long"}, "RUNPOD_SETTLE_SECONDS"),
    ],
)
def test_wrong_settings_are_named(env: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        RunPodCloud.from_env(env)


def test_only_a_rehearsal_is_simulated_and_every_other_address_is_told(rehearsal: Emulator) -> None:
    def opened(**env: str) -> tuple[bool, str | None]:
        cloud = RunPodCloud.from_env({"RUNPOD_API_KEY": "k", **env})
        return cloud.simulated, cloud.address

    assert opened() == (False, None)
    assert opened(RUNPOD_API_URL="https://api.runpod.io/v2/") == (False, None)
    # A proxy rents real pods with real GPUs.
    assert opened(RUNPOD_API_URL="https://proxy.example/v2") == (False, "https://proxy.example/v2")
    assert opened(RUNPOD_GRAPHQL_URL="https://proxy.example/graphql") == (False, "https://proxy.example/graphql")
    assert opened(**rehearsal.env) == (True, rehearsal.url)


def test_no_key_is_shown(rehearsal: Emulator) -> None:
    cloud = RunPodCloud.from_env(rehearsal.env)
    assert rehearsal.key not in repr(cloud)
