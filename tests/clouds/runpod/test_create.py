"""Creating a pod: what the request holds, and which answers are definite."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clouds.runpod.asking import Make, first, posts
from trainyard.clouds.protocol import OfferQuery
from trainyard.clouds.runpod import RunPodCloud
from trainyard.clouds.runpod.request import pod_env, rest_body, start_args
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity
from trainyard.rehearsal.kit import Emulator
from trainyard.rehearsal.runpod import schema
from trainyard.remote.keys import host_key


def test_a_pod_carries_both_ids_stop_end_and_its_host_key(cloud: RunPodCloud, spec: Make) -> None:
    wanted = spec()
    made = cloud.create(wanted, first(cloud))
    for info in (made, cloud.get(made.id), *cloud.list()):
        assert info is not None
        assert (info.fence_id, info.lease_id, info.stop, info.end) == (wanted.fence_id, wanted.lease_id, wanted.stop, wanted.end)
        assert info.host_key == host_key(b"s" * 32, wanted.name).public
        assert info.price_per_hour == 0.94 and info.status == "accepted" and not info.end_unreadable


def test_a_create_request_holds_no_account_key_and_tells_the_watchdog_where_the_api_is(cloud: RunPodCloud, spec: Make) -> None:
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
        {"registry": "reg1", "image": "ghcr.io/me/private@sha256:00"},
    ],
)
@pytest.mark.parametrize("gpu", [True, False])
def test_every_request_fits_the_specification(cloud: RunPodCloud, spec: Make, changes: dict[str, object], gpu: bool) -> None:
    offer = first(cloud) if gpu else cloud.offers(OfferQuery())[0]
    assert schema.check("CreatePodRequest", rest_body(spec(**changes), offer, {})) == []


def test_a_network_volume_is_mounted_and_keeps_the_caches(rehearsal: Emulator, cloud: RunPodCloud, spec: Make) -> None:
    volume = {"id": "vol1", "name": "trainyard-cache", "size": 500, "dataCenter": "EU-RO-1", "type": "STANDARD"}
    rehearsal.fleet.ledger.save_account({"volumes": [volume]})
    info = cloud.create(spec(volume="vol1"), first(cloud, regions=("EU-RO-1",)))
    record = rehearsal.fleet.get(info.id)
    assert record is not None
    path = record["request"]["mounts"]["network"][0]["path"]
    assert record["request"]["env"]["HF_HOME"].startswith(path) and record["request"]["env"]["UV_CACHE_DIR"].startswith(path)
    assert record["request"]["env"]["WORKSPACE"] == "/workspace"
    rehearsal.fleet.ledger.save_account({})


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


def test_every_create_fault_of_the_table_is_tried_here(rehearsal: Emulator) -> None:
    names = {fault.name for fault in rehearsal.cloud.faults if fault.on == "create"} - {"create-slow", "lie-create"}
    assert names <= {name for name, _, _ in CREATE_FAULTS}


def test_after_an_unclear_create_the_list_shows_the_pod_by_name(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    offer, wanted = first(cloud), spec()
    rehearsal.faults.on("create-reset-after", times=1)
    with pytest.raises(CloudUnknown):
        cloud.create(wanted, offer)
    assert [pod.name for pod in cloud.list()] == [wanted.name]


@pytest.mark.parametrize("status", [408, 499, 500, 599])
def test_a_create_that_timed_out_on_the_way_is_unknown_whatever_the_number(
    cloud: RunPodCloud, rehearsal: Emulator, spec: Make, status: int
) -> None:
    offer = first(cloud)
    rehearsal.faults.on("create-500-after", times=1, status=status)
    with pytest.raises(CloudUnknown):
        cloud.create(spec(), offer)


def test_the_account_key_cannot_slip_into_a_request(cloud: RunPodCloud, rehearsal: Emulator, spec: Make) -> None:
    with pytest.raises(CloudRefused, match="own key") as raised:
        cloud.create(spec(env={"HIDDEN": f"x{cloud.key.reveal()}y"}), first(cloud))
    assert cloud.key.reveal() not in str(raised.value) and rehearsal.fleet.all() == []


def test_nobodys_variables_override_the_marks(cloud: RunPodCloud, spec: Make) -> None:
    wanted = spec(env={"TRAINYARD_END": "2099-01-01T00:00:00Z", "TRAINYARD_LEASE_ID": "ffffffffff"})
    made = cloud.create(wanted, first(cloud))
    assert (made.lease_id, made.end) == (wanted.lease_id, wanted.end)
