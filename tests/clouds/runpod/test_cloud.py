"""RunPodCloud against the rehearsal: what it asks for, and what it makes of every answer that was seen in the wild."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.clouds.runpod.scripted import Say, Scripted, TurnedPace
from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.clouds.runpod import RunPodCloud, answers
from trainyard.clouds.runpod.bootlog import boot_problem
from trainyard.clouds.runpod.request import pod_env, rest_body, start_args
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError
from trainyard.rehearsal.runpod import Emulator, schema, switch
from trainyard.remote.keys import host_key

Make = Callable[..., PodSpec]
WANTED = OfferQuery(gpus=("RTX 5090",))


def first(cloud: RunPodCloud, **query: object) -> Offer:
    return cloud.offers(replace(WANTED, **query))[0]  # type: ignore[arg-type]


# Offers


def test_offers_follow_the_users_order_of_gpus_in_any_spelling(cloud: RunPodCloud) -> None:
    offers = cloud.offers(OfferQuery(gpus=("H100_SXM", "NVIDIA GeForce RTX 5090", "rtx4090")))
    assert list(dict.fromkeys(offer.gpu for offer in offers)) == [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA GeForce RTX 5090",
        "NVIDIA GeForce RTX 4090",
    ]


def test_within_a_gpu_the_data_center_with_most_stock_comes_first(cloud: RunPodCloud) -> None:
    assert [offer.stock for offer in cloud.offers(WANTED)] == ["HIGH", "MEDIUM", "LOW"]


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


# Create


def test_a_pod_carries_both_ids_stop_end_and_its_host_key(cloud: RunPodCloud, spec: Make) -> None:
    wanted = spec()
    made = cloud.create(wanted, first(cloud))
    for info in (made, cloud.get(made.id), *cloud.list()):
        assert info is not None
        assert (info.fence_id, info.lease_id, info.stop, info.end) == (wanted.fence_id, wanted.lease_id, wanted.stop, wanted.end)
        assert info.host_key == host_key(b"s" * 32, wanted.name).public
        assert info.price_per_hour == 0.94 and info.status == "starting" and not info.end_unreadable


def test_a_create_request_holds_no_account_key_and_tells_the_warden_where_the_api_is(cloud: RunPodCloud, spec: Make) -> None:
    wanted = spec(boot=("sh", "-c", "echo 'hi'"))
    body = json.dumps(rest_body(wanted, first(cloud), {"RUNPOD_API_URL": cloud.url}))
    assert cloud.key.reveal() not in body
    assert json.loads(body)["env"]["RUNPOD_API_URL"] == cloud.url


def test_a_retry_asks_with_the_same_bytes(cloud: RunPodCloud, spec: Make) -> None:
    wanted, offer = spec(), first(cloud)
    assert json.dumps(rest_body(wanted, offer, {})) == json.dumps(rest_body(wanted, offer, {}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"template": "t1", "image": None},
        {"registry": "reg1", "boot": ("sh", "-c", "a 'b' \"c\"\nd")},
        {"ports": ("22/tcp", "8888/http"), "disk_gb": 7},
        {"volume": "v1"},
    ],
)
@pytest.mark.parametrize("gpu", [True, False])
def test_every_request_fits_the_specification(cloud: RunPodCloud, spec: Make, changes: dict[str, object], gpu: bool) -> None:
    offer = first(cloud) if gpu else cloud.offers(OfferQuery())[0]
    assert schema.check("CreatePodRequest", rest_body(spec(**changes), offer, {})) == []


def test_a_network_volume_is_mounted_and_keeps_the_caches(rehearsal: Emulator, cloud: RunPodCloud, spec: Make) -> None:
    volume = {"id": "vol1", "name": "trainyard-cache", "size": 500, "dataCenter": "EU-RO-1", "type": "STANDARD"}
    rehearsal.fleet.books.save_account({"volumes": [volume]})
    info = cloud.create(spec(volume="vol1"), first(cloud, regions=("EU-RO-1",)))
    record = rehearsal.fleet.get(info.id)
    assert record is not None
    path = record["request"]["mounts"]["network"][0]["path"]
    assert record["request"]["env"]["HF_HOME"].startswith(path) and record["request"]["env"]["UV_CACHE_DIR"].startswith(path)
    assert record["request"]["env"]["WORKSPACE"] == "/workspace"
    rehearsal.fleet.books.save_account({})


@pytest.mark.parametrize("spot", [True, False])
def test_what_cannot_be_asked_for_is_refused_and_not_unknown(cloud: RunPodCloud, rehearsal: Emulator, spec: Make, spot: bool) -> None:
    offer = first(cloud, spot=spot)
    with pytest.raises(CloudRefused, match="at most 50"):
        cloud.create(spec(env={f"V{i}": "x" for i in range(50)}), offer)
    with pytest.raises(CloudRefused, match="no offer"):
        cloud.create(spec(), replace(offer, id="local|1"))
    assert rehearsal.fleet.all() == []


def test_without_an_image_runpods_own_is_taken(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    record = rehearsal.fleet.get(cloud.create(spec(image=None), first(cloud)).id)
    assert record is not None and record["request"]["image"].startswith("runpod/pytorch:")


def test_start_arguments_run_the_command_however_the_cloud_splits_them(spec: Make, tmp_path: Path) -> None:
    arguments = start_args(spec(boot=("sh", "-c", "printf '%s\\n' 'a' \"b\" \\\\ $C\necho next")))
    assert arguments.count("'") == 2 and "\n" not in arguments and '"' not in arguments
    naive = [*arguments.split("'")[0].split(), arguments.split("'")[1]]
    assert naive == shlex.split(arguments)
    (tmp_path / "sleep").write_text('#!/bin/sh\necho "then sleep $*"\n')
    (tmp_path / "sleep").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path), "C": "c", "TRAINYARD_SSH_READY": "1"}
    done = subprocess.run(naive, env=env, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "a\nb\n\\\nc\nnext\nthen sleep infinity\n"


def test_the_host_key_travels_as_base64_in_one_line(spec: Make) -> None:
    wanted = spec()
    env = pod_env(wanted, {})
    assert base64.b64decode(env["SSH_HOST_ED25519_KEY"]).decode() == wanted.host_key
    assert all("\n" not in value for value in env.values())


CREATE_FAULTS: list[tuple[str, type[CloudError] | None, int]] = [
    ("create-500-before", CloudUnknown, 0),
    ("create-500-after", CloudUnknown, 1),
    ("create-502-page-before", CloudUnknown, 0),
    ("create-502-page-after", CloudUnknown, 1),
    ("create-hangs-before", CloudUnknown, 0),
    ("create-hangs-after", CloudUnknown, 1),
    ("create-reset-before", CloudUnknown, 0),
    ("create-reset-after", CloudUnknown, 1),
    ("create-no-capacity", NoCapacity, 0),
    ("create-rule-broken", NoCapacity, 0),
    ("create-no-balance", CloudRefused, 0),
    ("create-pool-forbidden", NoCapacity, 0),
    ("create-forbidden-page", CloudUnknown, 0),
    ("create-unauthorized", CloudRefused, 0),
    ("create-redirected", CloudUnknown, 0),
    ("create-v1-answer", CloudRefused, 0),
    ("create-without-id", CloudUnknown, 1),
    ("create-empty-answer", CloudUnknown, 1),
    ("create-cut-answer", CloudUnknown, 1),
    ("create-rate-limited", None, 1),
    ("create-rate-limited-mutely", None, 1),
    ("everything-500", CloudUnknown, 0),
]


@pytest.mark.parametrize(("fault", "error", "pods"), CREATE_FAULTS)
def test_a_create_is_definite_exactly_when_nothing_was_made(
    cloud: RunPodCloud, rehearsal: Emulator, spec: Make, fault: str, error: type[CloudError] | None, pods: int
) -> None:
    offer, wanted = first(cloud), spec()
    before = len(posts(rehearsal))
    rehearsal.faults.on(fault, times=1)
    if "hangs" in fault:
        cloud._api.timeout = 0.3
    if error is None:
        cloud.create(wanted, offer)
    else:
        with pytest.raises(CloudError) as raised:
            cloud.create(wanted, offer)
        assert type(raised.value) is error, raised.value
        assert pods == 0 or isinstance(raised.value, CloudUnknown), "a pod was made, and the client says otherwise"
    assert len(rehearsal.fleet.all()) == pods
    # Sent once; only what the rate limit turned away at the door is sent again.
    wanted_posts = 2 if error is None else 1
    for _ in range(200):  # a request whose client hung up is noted a moment later
        if len(posts(rehearsal)) - before >= wanted_posts:
            break
        time.sleep(0.01)
    assert len(posts(rehearsal)) - before == wanted_posts


def posts(rehearsal: Emulator) -> list[object]:
    return [r for r in rehearsal.requests() if (r["method"], r["path"]) == ("POST", "/v2/pods")]


def test_every_create_fault_of_the_table_is_tried_here(rehearsal: Emulator) -> None:
    from trainyard.rehearsal.runpod import FAULTS

    names = {fault.name for fault in FAULTS if fault.on == "POST /pods"} - {"create-slow"}
    assert names <= {name for name, _, _ in CREATE_FAULTS}


def test_after_an_unclear_create_the_list_shows_the_pod_by_name(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    offer, wanted = first(cloud), spec()
    rehearsal.faults.on("create-reset-after", times=1)
    with pytest.raises(CloudUnknown):
        cloud.create(wanted, offer)
    assert [pod.name for pod in cloud.list()] == [wanted.name]


# List and get


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


def foreign(cloud: RunPodCloud, spec: Make, **env: str) -> PodSpec:
    return spec(name="someone-elses", fence_id="", lease_id="", stop=None, end=None, env=env)


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


# Terminate


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
    assert cloud.list() == [] and "GraphQL" in rehearsal.books()[-1].why


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
    with pytest.raises(UserError):
        cloud.terminate(pod_id)


# The rest


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
    rehearsal.fleet.books.save_account({"volumes": volumes})
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
    rehearsal.fleet.books.save_account({})


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clouds_clock_counts_not_ours(cloud: RunPodCloud, rehearsal: Emulator, hours: int) -> None:
    rehearsal.faults.on("clock-ahead" if hours > 0 else "clock-behind")
    assert abs(cloud.now() - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(seconds=5)


def test_the_balance_is_told(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    cloud.create(spec(), first(cloud))
    assert cloud.balance() == (100.0, 0.94)


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
        assert list(cloud.logs(made.id)) == [b"exec format error\n"]
        assert "another processor" in str(cloud.boot_problem(made.id))
    finally:
        module.LOG_IDLE = before
    with pytest.raises(CloudRefused, match="not found"):
        list(cloud.logs("nosuchpod"))


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


def test_only_the_real_addresses_are_not_simulated(rehearsal: Emulator) -> None:
    assert not RunPodCloud.from_env({"RUNPOD_API_KEY": "k"}).simulated
    assert not RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": "https://api.runpod.io/v2/"}).simulated
    assert RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": "https://proxy.example/v2"}).simulated
    assert RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_GRAPHQL_URL": "https://proxy.example/graphql"}).simulated
    assert RunPodCloud.from_env(rehearsal.env).simulated


def test_no_key_is_shown(rehearsal: Emulator) -> None:
    cloud = RunPodCloud.from_env(rehearsal.env)
    assert rehearsal.key not in repr(cloud)


# Addresses


def running(**changes: object) -> dict[str, object]:
    return {"id": "x", "status": "RUNNING", **changes}


def port(kind: str, ip: str | None, public: int | None, private: int = 22) -> dict[str, object]:
    return {"private": private, "public": public, "type": kind, "ip": ip}


@pytest.mark.parametrize(
    ("ports", "found"),
    [
        ([port("udp", "1.2.3.4", 1001), port("tcp", "1.2.3.4", 1002)], ("1.2.3.4", 1002)),
        ([port("http", "100.65.0.1", 60022), port("tcp", "1.2.3.4", 1002)], ("1.2.3.4", 1002)),
        ([port("tcp", "1.2.3.4", 1003, private=8888), port("tcp", "1.2.3.4", 1002)], ("1.2.3.4", 1002)),
        ([port("tcp", None, 1002)], None),
        ([port("tcp", "1.2.3.4", None)], None),
        ([port("udp", "1.2.3.4", 1001)], None),
        ([], None),
        (None, None),
    ],
)
def test_the_tcp_mapping_of_22_is_the_address(ports: object, found: tuple[str, int] | None) -> None:
    address = answers.ssh_address(running(runtime={"ports": ports}))
    assert (address and (address.host, address.port)) == found


def test_the_live_mapping_wins_over_the_ssh_block() -> None:
    direct = {"host": "9.9.9.9", "port": 17740, "username": "root", "command": ""}
    pod = running(runtime={"ports": [port("tcp", "1.2.3.4", 12890)]}, ssh={"proxy": None, "direct": direct})
    address = answers.ssh_address(pod)
    assert address is not None and address.port == 12890
    lone = answers.ssh_address({**pod, "runtime": None})
    assert lone is not None and lone.port == 17740


def test_the_proxy_and_a_stopped_pods_last_address_are_no_addresses() -> None:
    proxy = {"host": "ssh.runpod.io", "port": 22, "username": "x-1", "command": ""}
    assert answers.ssh_address(running(ssh={"proxy": proxy, "direct": None})) is None
    stopped = {"id": "x", "status": "EXITED", "runtime": {"ports": [port("tcp", "1.2.3.4", 1002)]}}
    assert answers.ssh_address(stopped) is None


def test_a_204_is_not_parsed(pace: TurnedPace) -> None:
    server = Scripted(Say(204, raw=b""))
    cloud = RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": server.url})
    cloud.terminate("x")
    server.close()


def test_a_pod_reported_as_terminated_is_gone() -> None:
    server = Scripted(Say(200, {"pods": [{"id": "x", "status": "TERMINATED"}], "id": "x", "status": "TERMINATED"}))
    cloud = RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": server.url})
    assert cloud.get("x") is None and cloud.list() == []
    server.close()


def test_a_listed_pod_without_id_makes_the_list_an_error() -> None:
    server = Scripted(Say(200, {"pods": [{"name": "x", "status": "RUNNING"}]}))
    cloud = RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": server.url})
    with pytest.raises(CloudUnknown, match="without an id"):
        cloud.list()
    server.close()


def test_faults_can_be_switched_from_another_process(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    switch(rehearsal.url, "list-v1-array", times=1)
    with pytest.raises(CloudError):
        cloud.list()
    assert cloud.list() == []
