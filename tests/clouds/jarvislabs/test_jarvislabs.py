"""JarvisLabs' adapter against its emulator, and its reading of answers; each trap that costs money has a test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.clouds.account import Account, account, make_spec
from trainyard.clouds.jarvislabs import JarvisLabsCloud, answers, catalog
from trainyard.clouds.marker import PodName, new_id, parse_short_name, short_name, shortened
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.clouds.vm import key_name
from trainyard.errors import CloudRefused, CloudUnknown, NoCapacity, UserError

END = datetime(2026, 11, 30, 4, 2, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with account("jarvislabs", tmp_path_factory.mktemp("jarvislabs")) as made:
        yield made


@pytest.fixture
def at(opened: Account) -> Iterator[Account]:
    yield opened
    opened.clear()
    opened.emulator.fleet.ledger.save_account({})


def offer(at: Account, gpu: str, **query: object) -> Offer:
    return at.cloud.offers(OfferQuery(gpus=(gpu,), **query))[0]  # type: ignore[arg-type]


# --- names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [None, END, END - timedelta(minutes=30), END - timedelta(days=31)])
@pytest.mark.parametrize("logical", ["pod", "pod-9", "a"])
def test_a_short_name_tells_ids_stop_and_end_in_whichever_case_it_is_shown(logical: str, stop: datetime | None) -> None:
    for fence, lease, spec in (
        ("0000000000", "0000000000", "00000000"),
        ("ffffffffff", "ffffffffff", "ffffffff"),
        (new_id(), new_id(), "0123abcd"),
    ):
        name = str(PodName(fence, lease, logical, spec))
        short = short_name(name, stop, END)

        assert len(short) <= 40 and set(short) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert parse_short_name(short) == parse_short_name(short.upper()) == (name, stop, END)
    assert parse_short_name(short_name(name, None, None)) == (name, None, None)


@pytest.mark.parametrize(
    "name", ["", "my-notebook", "ty-pod", "ty-" + 33 * "z", "ty-" + "a-" * 18, str(PodName("0a1b2c3d4e", "f5e6d7c8b9", "pod", "0123abcd"))]
)
def test_any_other_name_is_left_alone(name: str) -> None:
    assert parse_short_name(name) == (name, None, None)


@pytest.mark.parametrize(
    ("logical", "stop", "end"),
    [
        ("worker", None, END),
        ("pod", END + timedelta(seconds=1), END),
        ("pod", END - timedelta(days=49), END),
        ("pod", None, datetime(2099, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_does_not_fit_into_a_short_name_is_refused_never_cut(logical: str, stop: datetime | None, end: datetime) -> None:
    with pytest.raises(ValueError, match="short form"):
        short_name(str(PodName(new_id(), new_id(), logical, "0123abcd")), stop, end)


def test_a_longer_logical_name_is_shortened_to_its_own_and_a_short_one_stays() -> None:
    names = ["worker", "worker-1", "worker-2", "trainer-of-the-night", "a-very"]

    assert [shortened(name, 40) for name in names] == names and shortened("pod-0", 5) == "pod-0"
    assert len({shortened(name, 5) for name in names}) == len(names)
    for name in names:
        short = str(PodName(new_id(), new_id(), shortened(name, 5), "0123abcd"))
        assert parse_short_name(short_name(short, None, END))[0] == short


# --- what is asked -------------------------------------------------------------------------------------------------------


def test_an_instance_is_made_and_ended_at_its_regions_address_and_read_at_one(at: Account) -> None:
    made = at.cloud.create(make_spec(at.cloud), offer(at, "H100", regions=("EU1",)))
    at.cloud.terminate(made.id)

    paths = [line["path"] for line in at.emulator.requests() if line.get("call") in ("create", "delete", "get", "list")]
    assert {path.split("/")[1] for path in paths if "fetch" in path} == {"india-noida-01"}
    assert [path for path in paths if "fetch" not in path][-2:] == ["/europe-01/templates/pytorch/create", "/europe-01/misc/destroy"]
    assert not at.alive()


def test_without_another_address_each_region_is_asked_at_its_own() -> None:
    cloud = JarvisLabsCloud.from_env({"JARVISLABS_API_KEY": "jl_x"})

    assert (cloud.address, cloud.simulated) == (None, False)
    assert {region: api.base for region, api in cloud._apis.items()} == catalog.HOSTS
    assert "jl_x" not in repr(cloud)
    with pytest.raises(UserError, match="clear text"):
        JarvisLabsCloud.from_env({"JL_API_KEY": "jl_x", "JARVISLABS_API_URL": "http://example.com"})


def test_a_create_tells_size_place_and_name_and_nothing_of_ours_beside(at: Account) -> None:
    spec = make_spec(at.cloud, disk_gb=250, env={"TRAINYARD_PRICE": "0.75"})
    made = at.cloud.create(spec, offer(at, "A6000", spot=True))

    [record] = at.emulator.fleet.all()
    request = {key: value for key, value in record["request"].items() if key not in ("logins", "template")}
    assert request == {
        "gpu_type": "A6000", "num_gpus": 1, "hdd": 250, "region": "india-chennai-01", "name": short_name(spec.name, spec.stop, spec.end),
        "is_spot": True, "duration": "hour", "disk_type": "ssd", "http_ports": "", "script_id": None, "script_args": "", "fs_id": None,
        "arguments": "",
    }  # fmt: skip
    assert (made.price_per_hour, made.region, made.gpu, made.lease_id) == (0.49, "india-chennai-01", "A6000", spec.lease_id)


@pytest.mark.parametrize(
    "changes",
    [{"env": {"COLOUR": "blue"}}, {"template": "vm"}, {"template": "../x"}, {"image": "a/b:1"}, {"ports": ("22/tcp", "8888/http")},
     {"name": str(PodName("0" * 10, "0" * 10, "worker", "0123abcd"))}],
)  # fmt: skip
def test_what_it_has_no_place_for_is_refused_before_anything_is_sent(at: Account, changes: dict[str, object]) -> None:
    rentable, before = offer(at, "L4"), len(at.emulator.requests())
    with pytest.raises(CloudRefused):
        at.cloud.create(make_spec(at.cloud, **changes), rentable)

    assert len(at.emulator.requests()) == before


def test_a_create_whose_id_is_not_told_is_unknown_and_found_by_its_name(at: Account) -> None:
    spec = make_spec(at.cloud)
    at.lie("create-false-after", times=1)
    with pytest.raises(CloudUnknown, match="could not be made"):
        at.cloud.create(spec, offer(at, "L4"))

    assert [(pod.name, pod.end) for pod in at.open().list()] == [(spec.name, spec.end)]


def test_an_instance_that_does_not_show_yet_is_known_by_its_id(at: Account) -> None:
    at.emulator.faults.on("get-late", lag=1000.0)
    spec = make_spec(at.cloud)
    made = at.cloud.create(spec, offer(at, "L4"))

    assert at.cloud.get(made.id) is None and at.cloud.boot_problem(made.id) is None
    assert (made.status, made.lease_id, made.end, made.price_per_hour) == ("starting", spec.lease_id, spec.end, 0.44)
    at.cloud.terminate(made.id)  # though it is denied: where it was asked for is known
    assert not at.alive()


def test_no_capacity_is_told_and_its_key_does_not_stay(at: Account) -> None:
    rentable = offer(at, "L4")
    at.lie("sold-out")
    with pytest.raises(NoCapacity):
        at.cloud.create(make_spec(at.cloud), rentable)

    assert at.emulator.fleet.ledger.account().get("keys") == []


def test_an_error_of_a_destroy_is_none_where_the_instance_goes_all_the_same(at: Account) -> None:
    for fault in ("delete-false-after", "delete-500-after"):
        made = at.rent()
        at.lie(fault, times=1)
        at.cloud.terminate(made.id)
        assert not at.alive()
    made = at.rent()
    at.lie("delete-404-untrue")
    with pytest.raises(CloudUnknown):
        at.cloud.terminate(made.id)
    assert at.alive() == {made.id}


def test_why_an_instance_could_not_be_made_is_asked_at_its_region(at: Account) -> None:
    made = at.cloud.create(make_spec(at.cloud), offer(at, "A5000"))
    record = at.emulator.fleet.existing(made.id)
    assert at.cloud.boot_problem(made.id) is None
    record["status"], record["due"] = "ERROR", float("inf")

    assert at.cloud.boot_problem(made.id) == "no more disk on this host"
    assert [pod.status for pod in at.cloud.list()] == ["error"]


def test_keys_go_with_their_pods_and_one_that_there_is_no_room_for_is_lent(at: Account) -> None:
    others = [{"ssh_key": f"ssh-ed25519 B{n}", "key_name": f"k{n}", "key_id": str(n), "user_id": "me"} for n in range(9)]
    at.emulator.fleet.ledger.save_account({"keys": others})
    one, two = make_spec(at.cloud), make_spec(at.cloud)
    made = at.cloud.create(one, offer(at, "L4"))
    at.cloud.create(two, offer(at, "L4"))
    assert [key.name for key in at.cloud.ssh_keys()][9:] == [key_name(one)]  # type: ignore[attr-defined]
    with pytest.raises(CloudRefused, match="Maximum number"):
        at.cloud.create(make_spec(at.cloud, public_key="ssh-ed25519 CCCC other"), offer(at, "L4"))
    at.cloud.terminate(made.id)

    assert len(at.emulator.fleet.ledger.account()["keys"]) == 9


def test_work_is_done_on_the_disk_that_is_paid_for_and_in_a_rehearsal_in_the_pods_own_folder(at: Account) -> None:
    pod_id = at.rent().id
    assert [pod.workspace for pod in at.cloud.list()] == ["/home/workspace"]
    at.run(pod_id, 40022)

    assert [pod.workspace for pod in at.cloud.list()] == ["/workspace"]


# --- money ---------------------------------------------------------------------------------------------------------------


def test_an_account_in_rupees_rents_nothing_and_tells_no_dollars(at: Account) -> None:
    at.rent()
    at.emulator.fleet.ledger.save_account({"rupees": True})
    cloud = at.open()

    with pytest.raises(UserError, match="rupees"):
        cloud.offers(OfferQuery(gpus=("L4",)))
    assert (cloud.account(), [pod.price_per_hour for pod in cloud.list()]) == (None, [None])


def test_a_list_does_not_fail_for_prices_that_cannot_be_read(at: Account) -> None:
    pod_id = at.rent().id
    for fault in ("catalog-500", "currency-500"):
        at.lie(fault)
        cloud = at.open()
        assert [(pod.id, pod.price_per_hour) for pod in cloud.list()] == [(pod_id, None)]
        at.emulator.faults.off()


def test_a_paused_instance_may_be_billed_and_the_balance_is_told(at: Account) -> None:
    pod_id = at.rent().id
    at.emulator.fleet.act(pod_id, "stop")
    statement = at.cloud.account()

    assert [(item.kind, item.per_hour) for item in at.cloud.costs() if item.kind != "ssh key"] == [("stopped pod", None)]
    assert statement is not None and statement.billed is None and 99 < statement.balance <= 100


ROW = {
    "gpu_type": "H100", "region": "india-noida-01", "num_free_devices": 4, "effective_num_free_devices": None,
    "spot_num_free_devices": None, "price_per_hour": 2.69, "spot_price": None, "vram": "80", "workload_type": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "query", "price"),
    [
        ({}, {}, 2.69),
        ({}, {"gpu_count": 2}, 5.38),
        ({}, {"gpu_count": 8}, None),
        ({"price_per_hour": "2.5"}, {}, 2.5),
        ({"price_per_hour": ""}, {}, None),
        ({"price_per_hour": 0}, {}, None),
        ({"num_free_devices": ""}, {}, None),
        ({"effective_num_free_devices": ""}, {}, 2.69),
        ({"effective_num_free_devices": 0}, {}, None),
        ({"workload_type": "vm"}, {}, None),
        ({"workload_type": "container"}, {}, 2.69),
        ({"region": "mars-01"}, {}, None),
        ({}, {"spot": True}, None),
        ({"spot_price": 1.2}, {"spot": True}, 1.2),
        ({"spot_price": 1.2, "spot_num_free_devices": 0}, {"spot": True}, None),
        ({}, {"regions": ("IN2",)}, 2.69),
        ({}, {"regions": ("india-chennai-01",)}, None),
        ({}, {"max_price": 2.0}, None),
        ({}, {"min_vram_gb": 141}, None),
        ({"region": "europe-01"}, {"gpu_count": 2}, None),
        ({"region": "europe-01"}, {}, 2.69),
    ],
)
def test_only_what_is_free_and_priced_in_a_known_region_is_offered(
    more: Mapping[str, object], query: Mapping[str, object], price: float | None
) -> None:
    offers = catalog.offers(OfferQuery(gpus=("H100",), **query), [{**ROW, **more}])  # type: ignore[arg-type]

    assert [offer.price_per_hour for offer in offers] == ([] if price is None else [pytest.approx(price)])
    for offer in offers:
        assert str(catalog.parse_choice(offer.id)) == offer.id


def test_bad_words_are_refused_by_name() -> None:
    for query, words in (
        (OfferQuery(gpus=("H1000",)), "H1000"),
        (OfferQuery(), "without a GPU"),
        (OfferQuery(gpus=("H100",), regions=("x",)), "'x'"),
    ):
        with pytest.raises(UserError, match=words):
            catalog.offers(query, [ROW])
    for wrong in ("H100", "H100|mars|1|", "H100|europe-01|x|", "H100|europe-01|1|maybe"):
        with pytest.raises(UserError, match="no offer of JarvisLabs"):
            catalog.parse_choice(wrong)


def test_a_price_that_is_told_twice_and_differs_is_not_known() -> None:
    known = catalog.prices([ROW, {**ROW, "price_per_hour": 3.0}, {**ROW, "gpu_type": "L4", "spot_price": 0.2}])
    running = {"num_gpus": 2, "region": "india-noida-01", "is_spot": False}

    assert catalog.hourly({**running, "gpu_type": "H100"}, known) is None
    assert catalog.hourly({**running, "gpu_type": "L4"}, known) == 5.38
    assert catalog.hourly({**running, "gpu_type": "L4", "is_spot": True}, known) == 0.4
    assert catalog.hourly({**running, "gpu_type": "L4", "num_gpus": ""}, known) is None


# --- what is answered ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("ssh -o StrictHostKeyChecking=no -p 2222 root@example.com", ("example.com", 2222, "root")),
        ("ssh -p2222 example.com", ("example.com", 2222, "root")),
        ("ssh -l ubuntu example.com", ("example.com", 22, "ubuntu")),
        ("ssh -l ubuntu -i '~/my key' -A me@example.com -p 1", ("example.com", 22, "me")),
        ("ssh -p x root@example.com", None),
        ("ssh -p 70000 root@example.com", None),
        ("ssh -o 'unclosed root@example.com", None),
        ("ssh -p 22", None),
        ("telnet example.com", None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_every_form_of_an_ssh_command_is_read_and_none_is_guessed(command: object, address: object) -> None:
    found = answers.ssh_address(command)

    assert (found and (found.host, found.port, found.user)) == address


@pytest.mark.parametrize(
    ("row", "status", "port"),
    [
        ({"status": "Running"}, "running", 2201),
        ({"status": "Creating"}, "starting", None),
        ({"status": "Paused"}, "exited", None),
        ({"status": "Resuming"}, "starting", None),
        ({"status": "Destroying"}, "terminating", None),
        ({"status": "Failed"}, "error", None),
        ({"status": "Migrating"}, "unknown", None),
        ({"status": None}, "unknown", None),
        ({"status": "Running", "ssh_str": None, "public_ip": "198.51.100.2", "framework": "vm"}, "running", 22),
        ({"status": "Running", "ssh_str": None, "public_ip": "198.51.100.2"}, "running", None),
    ],
)
def test_an_address_counts_only_while_an_instance_runs(row: Mapping[str, object], status: str, port: int | None) -> None:
    shown = {"machine_id": 7, "instance_name": "mine", "ssh_str": "ssh -p 2201 root@198.51.100.2", "framework": "pytorch", **row}
    info = answers.pod_info(shown)

    assert (info.id, info.name, info.status, info.ssh and info.ssh.port) == ("7", "mine", status, port)
    assert (info.lease_id, info.end_unreadable, info.created) == (None, False, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [({"success": True}, True), ({"sucess": "true"}, True), ({"success": "False"}, False), ({"success": 1}, None), ({}, None)],
)
def test_success_is_read_in_both_spellings_and_as_a_text(body: Mapping[str, object], said: bool | None) -> None:
    assert answers.success(body) is said


@pytest.mark.parametrize(
    ("status", "body", "gone"),
    [
        (404, {"detail": "Not found"}, True),
        (404, "<html>", False),
        (200, {"success": "false"}, True),
        (200, {"success": True, "instance": None}, True),
        (200, {"instance": None}, False),
        (200, {}, False),
        (500, {"success": False}, False),
        (401, {"detail": "Invalid token"}, False),
    ],
)
def test_gone_is_only_what_the_api_itself_says(status: int, body: object, gone: bool) -> None:
    answer = httpx.Response(status, text=body if isinstance(body, str) else json.dumps(body))

    assert answers.told_gone(answer) is gone


def test_the_place_of_a_422_is_told() -> None:
    answer = httpx.Response(422, json={"detail": [{"loc": ["body", "hdd"], "msg": "too small", "type": "value_error"}]})

    assert str(answers.create_error(answer)) == "JarvisLabs does not understand the request: body.hdd: too small"
