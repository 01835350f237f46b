"""io.net's adapter against its API as the specification has it; each trap that costs money has a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.clouds.ionet.conftest import KEY, IonetAccount
from tests.clouds.played import Answer, PlayedApi, say
from trainyard.clouds.ionet import IonetCloud
from trainyard.clouds.ionet.answers import NAME_MARK, bought_name, parse_bought
from trainyard.clouds.ionet.services import MACHINES
from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError

Make = Callable[..., PodSpec]
WANTED = OfferQuery(gpus=("RTX 4090",), hours=2.0)
HOUR = timedelta(hours=1)
of_machines = pytest.mark.parametrize("service", [MACHINES])


def first(cloud: IonetCloud, **query: object) -> Offer:
    return cloud.offers(replace(WANTED, **query))[0]  # type: ignore[arg-type]


def test_an_offer_is_a_location_at_its_price_by_the_hour_and_what_is_paid_ahead(cloud: IonetCloud) -> None:
    offers = cloud.offers(replace(WANTED, gpus=("H100", "4090"), gpu_count=2))

    assert [(offer.gpu, offer.region, offer.price_per_hour, round(offer.prepaid or 0, 6)) for offer in offers] == [
        ("H100 PCIe", "FI", 3.4, 10.2),
        ("H100 SXM", "US", 4.2, 12.6),
        ("GeForce RTX 4090", "FI", 0.8, 2.4),
        ("GeForce RTX 4090", "US", 0.88, 2.64),
    ]


@pytest.mark.parametrize(
    ("query", "regions"),
    [
        ({"regions": ("fi",)}, ["FI"]),
        ({"regions": ("United States",)}, ["US"]),
        ({"regions": ("mars",)}, []),
        ({"max_price": 0.41}, ["FI"]),
        ({"min_vram_gb": 48.0}, []),
        ({"gpu_count": 8}, []),
    ],
)
def test_what_does_not_fit_is_not_offered(cloud: IonetCloud, query: dict[str, Any], regions: list[str]) -> None:
    assert [offer.region for offer in cloud.offers(replace(WANTED, **query))] == regions


def test_a_gpu_that_is_none_is_refused_and_so_is_none(cloud: IonetCloud) -> None:
    with pytest.raises(UserError, match="no GPU is called 'H1000'"):
        cloud.offers(OfferQuery(gpus=("H1000",)))
    with pytest.raises(UserError, match="without a GPU"):
        cloud.offers(OfferQuery())


def test_a_price_that_cannot_be_read_is_an_error(cloud: IonetCloud, api: PlayedApi, account: IonetAccount) -> None:
    account.instead["GET /price"] = lambda asked: (200, {"data": {"total_cost_usdc": "x"}})
    with pytest.raises(CloudUnknown):
        cloud.offers(WANTED)
    api.broken.clear()


def test_a_container_is_asked_for_with_its_secrets_where_secrets_are_kept(cloud: IonetCloud, api: PlayedApi, spec: Make) -> None:
    asked = spec(image="ghcr.io/me/trainer:1", registry="-u me -p tok ghcr.io")
    info = cloud.create(asked, first(cloud))

    (body,) = api.sent("POST", "/deploy")
    config = body["container_config"]
    assert (body["duration_hours"], body["gpus_per_container"], body["hardware_id"], body["location_ids"]) == (3, 1, 203, [2])
    assert (config["replica_count"], config["traffic_port"], config["entrypoint"]) == (1, 8080, list(asked.command))
    assert config["secret_env_variables"] == asked.secret_env
    assert config["env_variables"][NAME_MARK] == body["resource_private_name"] == bought_name(asked, 3)
    assert body["registry_config"] == {"image_url": "ghcr.io/me/trainer:1", "registry_username": "me", "registry_secret": "tok"}
    assert "X-Amz-Signature" not in json.dumps({**body, "container_config": {**config, "secret_env_variables": {}}})
    assert (info.name, info.lease_id, info.stop, info.end, info.status) == (asked.name, asked.lease_id, asked.stop, asked.end, "accepted")
    assert (info.price_per_hour, info.region, info.ssh) == (0.4, "FI", None)
    assert cloud.list() == [info]


@of_machines
def test_a_machine_is_asked_for_with_one_key_whose_name_is_the_machines(cloud: IonetCloud, api: PlayedApi, spec: Make) -> None:
    asked = spec()
    info = cloud.create(asked, first(cloud))

    (body,) = api.sent("POST", "/deploy")
    assert body["ssh_keys"] == {body["resource_private_name"]: asked.public_key}
    assert (body["vms_qty"], body["gpus_per_vm"]) == (1, 1)
    assert (info.name, info.fence_id, info.end) == (asked.name, asked.fence_id, asked.end)


@of_machines
@pytest.mark.parametrize(
    ("changes", "says"),
    [({"image": "i"}, "image"), ({"registry": "r"}, "registry"), ({"env": {"A": "b"}}, "pod_env"), ({"public_key": ""}, "SSH key")],
)
def test_what_a_machine_cannot_have_is_refused(cloud: IonetCloud, api: PlayedApi, spec: Make, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CloudRefused, match=says):
        cloud.create(spec(**changes), first(cloud))
    assert api.sent("POST", "/deploy") == []


@pytest.mark.parametrize(
    "changes", [{"command": ()}, {"end": None}, {"env": {"A": KEY}}, {"secret_env": {"A": KEY}}, {"registry": "me:tok"}]
)
def test_what_a_container_cannot_have_is_refused_and_no_secret_said(
    cloud: IonetCloud, api: PlayedApi, spec: Make, changes: dict[str, Any]
) -> None:
    with pytest.raises(CloudRefused) as caught:
        cloud.create(spec(**changes), first(cloud))
    assert api.sent("POST", "/deploy") == [] and KEY not in str(caught.value) and "tok" not in str(caught.value).split()


def test_whole_hours_are_paid_for_and_a_quarter_is_left(cloud: IonetCloud, api: PlayedApi, spec: Make) -> None:
    now = datetime.now(UTC)
    for lease in (timedelta(minutes=10), timedelta(minutes=44), timedelta(minutes=46), timedelta(minutes=104), timedelta(minutes=106)):
        cloud.create(spec(end=now + lease, stop=now), first(cloud))

    assert [body["duration_hours"] for body in api.sent("POST", "/deploy")] == [1, 1, 2, 2, 3]


def test_what_is_full_by_now_is_no_capacity_and_nothing_is_sent(
    cloud: IonetCloud, api: PlayedApi, account: IonetAccount, spec: Make
) -> None:
    offer = first(cloud)
    account.full.add((203, 2))
    with pytest.raises(NoCapacity):
        cloud.create(spec(), offer)
    with pytest.raises(CloudRefused, match=r"no offer of io\.net"):
        cloud.create(spec(), replace(offer, id="gpu|x"))

    assert api.sent("POST", "/deploy") == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((401, {"detail": "Invalid key"}), CloudRefused),
        ((403, {"detail": "Another project"}), CloudRefused),
        ((422, {"detail": [{"loc": ["body", "hardware_id"], "msg": "Field required", "type": "missing"}]}), CloudRefused),
        ((400, {"detail": "Not enough hardware"}), CloudUnknown),
        ((402, {"detail": "Insufficient IO Credits"}), CloudUnknown),
        ((404, {"detail": "Not found"}), CloudUnknown),
        ((403, "<html>firewall</html>"), CloudUnknown),
        ((500, {"detail": "Internal"}), CloudUnknown),
        ((502, "<html>Bad gateway</html>"), CloudUnknown),
        ((200, {"status": "ok"}), CloudUnknown),
        ((0, None), CloudUnknown),
    ],
)
def test_only_a_no_at_the_door_has_made_nothing(
    cloud: IonetCloud, api: PlayedApi, account: IonetAccount, spec: Make, answer: Answer, kind: type[CloudError]
) -> None:
    account.instead["POST /deploy"] = partial(say, answer)
    with pytest.raises(kind) as caught:
        cloud.create(spec(), first(cloud))

    assert type(caught.value) is kind and len(api.sent("POST", "/deploy")) == 1
    if isinstance(answer[1], dict) and isinstance(answer[1].get("detail"), str):
        assert answer[1]["detail"] in caught.value.message
    api.broken.clear()


def test_a_lost_answer_is_found_by_its_name_in_the_list_alone(cloud: IonetCloud, account: IonetAccount, spec: Make) -> None:
    account.instead["POST /deploy"] = lambda asked: (0, account.deploy(asked))
    asked = spec()
    with pytest.raises(CloudUnknown):
        cloud.create(asked, first(cloud))

    assert [(pod.name, pod.fence_id, pod.lease_id, pod.stop, pod.end) for pod in cloud.list()] == [
        (asked.name, asked.fence_id, asked.lease_id, asked.stop, asked.end)
    ]


def test_a_create_that_is_answered_with_anothers_deployment_is_not_taken_for_ours(
    cloud: IonetCloud, account: IonetAccount, spec: Make
) -> None:
    other = cloud.create(spec(), first(cloud))
    account.instead["POST /deploy"] = lambda asked: (200, {"status": "deployment requested", "deployment_id": other.id})

    with pytest.raises(CloudUnknown, match="another deployment"):
        cloud.create(spec(), first(cloud))


@pytest.mark.parametrize(
    ("word", "left", "said"),
    [
        ("deployment requested", 180, "accepted"),
        ("running", 170, "running"),
        ("running", 0, "running"),
        ("completed", 100, "exited"),
        ("completed", 0, None),
        ("failed", 180, "error"),
        ("failed", 0, None),
        ("termination requested", 170, "terminating"),
        ("destroyed", 170, None),
        ("paused", 170, "unknown"),
    ],
)
def test_a_status_is_told_and_only_what_is_over_is_gone(
    cloud: IonetCloud, account: IonetAccount, spec: Make, word: str, left: int, said: str | None
) -> None:
    made = cloud.create(spec(), first(cloud))
    account.deployments[made.id] |= {"status": word, "compute_minutes_served": 180 - left, "compute_minutes_remaining": left}
    info = cloud.get(made.id)

    assert (info.status if info else None) == said
    assert [pod.status for pod in cloud.list()] == ([said] if said else [])
    assert [item.kind for item in cloud.costs()] == ([] if said is None else ["stopped pod" if said in ("exited", "error") else "pod"])


def test_a_list_has_all_pages_with_history_in_them(cloud: IonetCloud, account: IonetAccount, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    old = {str(n): {**account.deployments[made.id], "id": str(n), "status": "destroyed"} for n in range(230)}
    account.deployments = old | account.deployments

    assert [pod.id for pod in cloud.list()] == [made.id]


@pytest.mark.parametrize(
    "answer", [(200, {"data": {"deployments": []}}), (200, {"data": {"total": 2, "deployments": []}}), (404, "<html>")]
)
def test_a_list_that_is_not_whole_is_an_error(cloud: IonetCloud, api: PlayedApi, account: IonetAccount, answer: Answer) -> None:
    account.instead["GET /deployments"] = partial(say, answer)
    with pytest.raises(CloudError):
        cloud.list()
    api.broken.clear()


def test_only_the_apis_own_404_says_that_a_deployment_is_gone(cloud: IonetCloud, api: PlayedApi, account: IonetAccount) -> None:
    assert cloud.get("d1") is None
    cloud.terminate("d1")
    for answer in ((404, "<html>not here</html>"), (200, {"data": {"id": "other"}}), (500, {"detail": "x"})):
        account.instead["GET /deployment/{}"] = partial(say, answer)
        with pytest.raises(CloudError):
            cloud.get("d1")
    api.broken.clear()


def test_what_is_over_by_itself_need_not_let_itself_be_destroyed(cloud: IonetCloud, account: IonetAccount, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    account.instead["DELETE /deployment/{}"] = lambda asked: (400, {"detail": "It is not running"})
    with pytest.raises(CloudRefused):
        cloud.terminate(made.id)
    account.deployments[made.id] |= {"status": "completed", "compute_minutes_served": 180, "compute_minutes_remaining": 0}

    cloud.terminate(made.id)


def test_hours_that_are_bought_move_the_lease_for_everybody(cloud: IonetCloud, api: PlayedApi, account: IonetAccount, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    assert made.stop and made.end
    with pytest.raises(CloudRefused, match="whole hours"):
        cloud.change_markers(made.id, made.stop + HOUR / 2, made.end + HOUR / 2)
    with pytest.raises(CloudRefused, match="whole hours"):
        cloud.change_markers(made.id, made.stop, made.end + HOUR)
    cloud.change_markers(made.id, made.stop + 2 * HOUR, made.end + 2 * HOUR)
    cloud.change_markers(made.id, made.stop + 2 * HOUR, made.end + 2 * HOUR)

    assert api.sent("POST", "/extend") == [{"duration_hours": 2}]
    assert [(pod.stop, pod.end) for pod in cloud.list()] == [(made.stop + 2 * HOUR, made.end + 2 * HOUR)]


def test_an_extension_that_does_not_show_is_not_known(cloud: IonetCloud, account: IonetAccount, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    assert made.stop and made.end
    account.instead["POST /deployment/{}/extend"] = lambda asked: (200, account.show(replace(asked, name=made.id))[1])

    with pytest.raises(CloudUnknown, match="does not show it"):
        cloud.change_markers(made.id, made.stop + HOUR, made.end + HOUR)


@of_machines
def test_a_machines_lease_stays(cloud: IonetCloud, api: PlayedApi, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    with pytest.raises(CloudRefused):
        cloud.change_markers(made.id, made.stop, made.end)
    assert api.sent("POST", "/extend") == []


def test_minutes_of_each_gpu_never_make_a_lease_longer(spec: Make) -> None:
    name = parse_bought(bought_name(spec(), 3))
    assert name is not None

    def now(minutes: int, gpus: int) -> int:
        return name.hours_now({"compute_minutes_served": minutes - 60, "compute_minutes_remaining": 60}, gpus)

    assert [now(180, 1), now(300, 1), now(180 * 8, 8), now(300 * 8, 8), now(180, 8), now(300, 8), now(179, 1), now(60, 1)] == [
        3, 5, 3, 5, 3, 5, 3, 3,
    ]  # fmt: skip


def test_a_name_of_ours_whose_times_are_lost_is_ours_and_cannot_be_read(cloud: IonetCloud, account: IonetAccount, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    for name, unreadable in ((made.name, True), (f"{made.name}-000000-000000-3h", True), ("my-notebook", False)):
        account.deployments[made.id]["the name"] = name
        [pod] = cloud.list()
        assert (pod.lease_id is not None, pod.end_unreadable) == (unreadable, unreadable)


@of_machines
@pytest.mark.parametrize(
    ("access", "address"),
    [
        ("", None),
        ("ssh ubuntu@198.51.100.2 -p 2201", ("198.51.100.2", 2201, "ubuntu")),
        ("ssh -p 2201 root@host.example", ("host.example", 2201, "root")),
        ("soon", None),
    ],
)
def test_where_a_machine_answers_is_read_from_its_login(
    cloud: IonetCloud, account: IonetAccount, spec: Make, access: str, address: object
) -> None:
    made = cloud.create(spec(), first(cloud))
    account.deployments[made.id]["status"] = "running"
    account.units[made.id] = [account.unit(ssh_access=access)]
    info = cloud.get(made.id)

    assert info is not None and (info.ssh and (info.ssh.host, info.ssh.port, info.ssh.user)) == address


@pytest.mark.parametrize(
    ("word", "event", "log", "says"),
    [
        ("running", "Pulling image", "fine", None),
        ("running", "error pulling image: manifest unknown", "", "cannot be pulled"),
        ("completed", "Started", "python3: not found\n", "its command has ended: python3: not found"),
        ("failed", "Started", "", None),
    ],
)
def test_why_it_does_not_boot_is_told(
    cloud: IonetCloud, account: IonetAccount, spec: Make, word: str, event: str, log: str, says: str | None
) -> None:
    made = cloud.create(spec(), first(cloud))
    account.deployments[made.id]["status"] = word
    account.units[made.id] = [account.unit(container_events=[{"time": "2026-11-30T01:02:03Z", "message": event}])]
    account.logs = {"stderr": log}
    said = cloud.boot_problem(made.id)

    assert said is None if says is None else said is not None and says in said
