"""Prime Intellect's adapter against its API as the specification has it; each trap that costs money has a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.clouds.played import Answer, Asked, PlayedApi, say
from tests.clouds.prime.conftest import PrimeAccount, community, entry, page
from trainyard.clouds.marker import parse_timed_name
from trainyard.clouds.prime import PrimeCloud
from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.clouds.vm import key_name
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError

Make = Callable[..., PodSpec]
WANTED = OfferQuery(gpus=("RTX 4090",))


def first(cloud: PrimeCloud, **query: object) -> Offer:
    return cloud.offers(replace(WANTED, **query))[0]  # type: ignore[arg-type]


def prices(cloud: PrimeCloud, **query: object) -> list[float]:
    return [offer.price_per_hour for offer in cloud.offers(replace(WANTED, **query))]  # type: ignore[arg-type]


def test_offers_keep_the_order_of_preference_cheapest_first_within_it(cloud: PrimeCloud) -> None:
    assert prices(cloud, gpus=("H100", "4090")) == [1.9, 2.5, 0.44]
    assert prices(cloud, gpus=("H100 SXM",)) == [2.5]
    assert prices(cloud, gpus=("H100",), max_price=2.0) == [1.9]
    with pytest.raises(UserError, match="no GPU is called 'H1000'"):
        cloud.offers(OfferQuery(gpus=("H1000",)))


@pytest.mark.parametrize(
    ("more", "query", "price"),
    [
        ({"stockStatus": "Unavailable"}, {}, None),
        ({"stockStatus": "Low"}, {}, 0.5),
        ({"prepaidTime": 720}, {}, None),
        ({"isSpot": True}, {}, None),
        ({"isSpot": True}, {"spot": True}, 0.5),
        ({"isSpot": False}, {"spot": True}, None),
        ({"prices": {"onDemand": 0.5, "currency": "EUR"}}, {}, None),
        ({"prices": {"onDemand": None, "currency": "USD"}}, {}, None),
        ({"security": "community_cloud", "prices": community(0.3)}, {}, None),
        ({"security": "community_cloud", "prices": community(0.3)}, {"tier": "COMMUNITY"}, 0.3),
        ({"security": "community_cloud", "prices": community(0.3)}, {"tier": "ALL"}, 0.3),
        ({"images": ["cuda_12_4_pytorch_2_6", "cuda_12_6_pytorch_2_7"]}, {}, 0.5),
        ({"images": ["axolotl"]}, {}, None),
        ({}, {"regions": ("canada",)}, 0.5),
        ({}, {"regions": ("CA",)}, 0.5),
        ({}, {"regions": ("united_states",)}, None),
        ({}, {"min_vram_gb": 48}, None),
        ({"disk": {"minCount": 50, "maxCount": 80, "pricePerUnit": 0.001}}, {"disk_gb": 100}, None),
        ({"disk": {"minCount": 50, "maxCount": 800, "step": 30, "pricePerUnit": 0.001}}, {"disk_gb": 100}, 0.5 + 0.110),
        ({"disk": {"minCount": 50, "defaultCount": 100, "maxCount": 800, "pricePerUnit": 0.001, "defaultIncludedInPrice": True}},
         {"disk_gb": 150}, 0.5 + 0.05),
        ({"disk": {"defaultCount": 60}}, {"disk_gb": 100}, None),
        ({"disk": {"defaultCount": 200}}, {"disk_gb": 100}, 0.5),
    ],
)  # fmt: skip
def test_only_what_can_be_rented_by_the_hour_for_dollars_is_offered(
    cloud: PrimeCloud, account: PrimeAccount, more: dict[str, Any], query: dict[str, Any], price: float | None
) -> None:
    account.entries = [entry("RTX4090_24GB", 0.5, **more)]

    assert prices(cloud, **query) == ([] if price is None else [pytest.approx(price)])


def test_offers_of_all_pages_are_seen_and_an_unknown_region_is_refused(cloud: PrimeCloud, account: PrimeAccount) -> None:
    account.entries = [entry("RTX4090_24GB", 1 + number / 1000, cloudId=str(number)) for number in range(250)]

    assert len(cloud.offers(WANTED)) == 250
    with pytest.raises(UserError, match="'mars'"):
        cloud.offers(replace(WANTED, regions=("mars",)))


def test_a_create_names_provider_and_cloud_id_exactly(cloud: PrimeCloud, api: PlayedApi, account: PrimeAccount, spec: Make) -> None:
    account.entries[0] |= {"disk": {"minCount": 50, "maxCount": 800, "pricePerUnit": 0.001}}
    asked = spec()
    info = cloud.create(asked, first(cloud, disk_gb=120))

    (body,) = api.sent("POST", "/pods/")
    (key,) = account.keys.values()
    assert body["provider"] == {"type": "hyperstack"}
    assert body["pod"] == {
        "name": body["pod"]["name"], "cloudId": "RTX4090_24GB-id", "gpuType": "RTX4090_24GB", "socket": "PCIe", "gpuCount": 1,
        "diskSize": 120,
        "vcpus": 28, "memory": 180, "image": "ubuntu_22_cuda_12", "dataCenterId": "CANADA-1", "country": "CA", "security": "secure_cloud",
        "envVars": [{"key": "COLOUR", "value": "deep blue"}], "sshKeyId": key["id"], "autoRestart": False,
    }  # fmt: skip
    assert key["name"] == key_name(asked)
    assert (info.name, info.fence_id, info.lease_id, info.stop, info.end) == (
        asked.name,
        asked.fence_id,
        asked.lease_id,
        asked.stop,
        asked.end,
    )
    assert (info.price_per_hour, info.status, info.host_key) == (1.23, "accepted", None)
    assert cloud.list() == [info]


def test_a_team_and_a_template_are_asked_for(api: PlayedApi, cloud: PrimeCloud, spec: Make) -> None:
    cloud.team = "team-7"
    cloud.create(spec(template="tpl"), first(cloud))

    (body,) = api.sent("POST", "/pods/")
    assert body["team"] == {"teamId": "team-7"}
    assert (body["pod"]["image"], body["pod"]["customTemplateId"]) == ("custom_template", "tpl")


def test_what_is_no_longer_offered_is_no_capacity_and_nothing_is_sent(
    cloud: PrimeCloud, api: PlayedApi, account: PrimeAccount, spec: Make
) -> None:
    offer = first(cloud)
    account.entries[0]["stockStatus"] = "Unavailable"
    with pytest.raises(NoCapacity):
        cloud.create(spec(), offer)
    account.entries.clear()
    with pytest.raises(NoCapacity):
        cloud.create(spec(), offer)
    with pytest.raises(CloudRefused, match="no offer of Prime"):
        cloud.create(spec(), replace(offer, id="gpu|x"))

    assert api.sent("POST", "/pods/") == []


@pytest.mark.parametrize(
    ("answer", "kind", "key_stays"),
    [
        ((400, {"detail": "No nodes left"}), NoCapacity, False),
        ((404, {"detail": "Cloud not found"}), NoCapacity, False),
        ((401, {"detail": "Not authenticated"}), CloudRefused, False),
        ((402, {"detail": "Insufficient funds"}), CloudRefused, False),
        ((422, {"errors": [{"param": "pod.cloudId", "details": "unknown"}]}), CloudRefused, False),
        ((422, {"detail": [{"loc": ["body", "pod", "socket"], "msg": "field required", "type": "missing"}]}), CloudRefused, False),
        ((500, {"detail": "Internal"}), CloudUnknown, True),
        ((502, "<html>Bad gateway</html>"), CloudUnknown, True),
        ((400, "<html>no</html>"), CloudUnknown, True),
        ((200, {"status": "ok"}), CloudUnknown, True),
        ((0, None), CloudUnknown, True),
    ],
)
def test_an_answer_without_a_pod_says_whether_one_may_be_there(
    cloud: PrimeCloud, api: PlayedApi, account: PrimeAccount, spec: Make, answer: Answer, kind: type[CloudError], key_stays: bool
) -> None:
    account.instead["POST /pods/"] = lambda asked: answer
    with pytest.raises(kind) as caught:
        cloud.create(spec(), first(cloud))

    assert type(caught.value) is kind
    assert bool(account.keys) is key_stays
    api.broken.clear()


def test_both_shapes_of_a_422_are_told_with_their_place(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    account.instead["POST /pods/"] = lambda asked: (422, {"errors": [{"param": "pod.cloudId", "details": "is gone"}]})
    with pytest.raises(CloudRefused, match=r"pod\.cloudId: is gone"):
        cloud.create(spec(), first(cloud))
    account.instead["POST /pods/"] = lambda asked: (422, {"detail": [{"loc": ["body", "pod"], "msg": "missing"}]})
    with pytest.raises(CloudRefused, match=r"body\.pod: missing"):
        cloud.create(spec(), first(cloud))


def test_a_refusal_after_the_deed_is_unknown(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    def refuse(asked: Asked) -> Answer:
        account.create(asked)
        return 400, {"detail": "The provider did not answer"}

    account.instead["POST /pods/"] = refuse
    with pytest.raises(CloudUnknown, match="is there all the same"):
        cloud.create(spec(), first(cloud))


def test_a_create_whose_answer_is_lost_is_sent_once_and_found_by_its_name(
    cloud: PrimeCloud, api: PlayedApi, account: PrimeAccount, spec: Make
) -> None:
    account.instead["POST /pods/"] = lambda asked: (0, account.create(asked))
    asked = spec()
    with pytest.raises(CloudUnknown):
        cloud.create(asked, first(cloud))

    assert len(api.sent("POST", "/pods/")) == 1
    assert [(pod.name, pod.lease_id, pod.end) for pod in cloud.list()] == [(asked.name, asked.lease_id, asked.end)]


def test_a_create_that_is_answered_with_anothers_pod_is_not_taken_for_ours(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    cloud.create(spec(), first(cloud))
    account.instead["POST /pods/"] = lambda asked: (200, next(iter(account.pods.values())))

    with pytest.raises(CloudUnknown, match="another pod"):
        cloud.create(spec(), first(cloud))


@pytest.mark.parametrize(
    ("status", "installation", "connection", "said", "address"),
    [
        ("PENDING", "PENDING", None, "starting", None),
        ("ACTIVE", "PENDING", "root@198.51.100.2 -p 2201", "starting", None),
        ("ACTIVE", "ACTIVE", "root@198.51.100.2 -p 2201", "starting", None),
        ("ACTIVE", "FINISHED", None, "running", None),
        ("ACTIVE", "FINISHED", [None], "running", None),
        ("ACTIVE", "FINISHED", "root@198.51.100.2 -p 2201", "running", ("198.51.100.2", 2201, "root")),
        ("ACTIVE", "FINISHED", "ssh ubuntu@198.51.100.2", "running", ("198.51.100.2", 22, "ubuntu")),
        ("ACTIVE", "FINISHED", [None, "root@198.51.100.2 -p 22"], "running", ("198.51.100.2", 22, "root")),
        ("ACTIVE", "ERROR", "root@198.51.100.2", "error", None),
        ("STOPPED", "FINISHED", "root@198.51.100.2", "exited", None),
        ("ERROR", "PENDING", None, "error", None),
        ("DELETING", "FINISHED", "root@198.51.100.2", "terminating", None),
        ("UNKNOWN", "PENDING", None, "unknown", None),
    ],
)
def test_states_installation_and_every_shape_of_an_address(
    cloud: PrimeCloud, account: PrimeAccount, spec: Make, status: str, installation: str, connection: object, said: str, address: object
) -> None:
    made = cloud.create(spec(), first(cloud))
    account.pods[made.id] |= {"status": status, "installationStatus": installation, "sshConnection": connection}
    info = cloud.get(made.id)

    assert info is not None
    assert (info.status, info.ssh and (info.ssh.host, info.ssh.port, info.ssh.user)) == (said, address)


def test_why_an_installation_failed_is_told(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    assert cloud.boot_problem(made.id) is None
    account.pods[made.id] |= {"installationStatus": "ERROR", "installationFailure": "no CUDA driver"}

    assert cloud.boot_problem(made.id) == "no CUDA driver"


def test_a_list_is_complete_over_its_pages(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    account.pods = {str(n): {**account.pods[made.id], "id": str(n), "name": f"theirs-{n}"} for n in range(230)} | account.pods

    assert len(cloud.list()) == 231
    assert made.id in {pod.id for pod in cloud.list()}


def test_a_list_that_moves_while_it_is_read_is_read_again_or_told_as_unreadable(
    cloud: PrimeCloud, account: PrimeAccount, spec: Make
) -> None:
    made = cloud.create(spec(), first(cloud))
    account.pods = {str(n): {**account.pods[made.id], "id": str(n)} for n in range(150)}
    moves = 1

    def move(asked: Asked) -> Answer:
        nonlocal moves
        answer = page(list(account.pods.values()), asked)
        if asked.query["offset"] == "0" and moves:
            moves -= 1
            del account.pods[next(iter(account.pods))]  # what was the 101st is now on the first page, which was read
        return answer

    account.instead["GET /pods/"] = move
    assert len(cloud.list()) == 149
    moves = 9
    with pytest.raises(CloudUnknown, match="do not agree"):
        cloud.list()


@pytest.mark.parametrize("answer", [(200, {"data": []}), (200, {"total_count": 3, "data": []}), (404, "<html></html>"), (200, "[]")])
def test_a_list_that_cannot_be_read_is_an_error(cloud: PrimeCloud, api: PlayedApi, account: PrimeAccount, answer: Answer) -> None:
    account.instead["GET /pods/"] = lambda asked: answer
    with pytest.raises(CloudError):
        cloud.list()
    api.broken.clear()


def test_deleting_is_not_gone_terminated_is(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    made = cloud.create(spec(), first(cloud))
    cloud.terminate(made.id)
    assert [pod.status for pod in cloud.list()] == ["terminating"]
    account.pods[made.id]["status"] = "TERMINATED"
    assert (cloud.list(), cloud.get(made.id)) == ([], None)
    account.pods.clear()

    assert cloud.get(made.id) is None
    cloud.terminate(made.id)  # the API's own word that there is none: nothing is left to do


def test_only_the_apis_own_404_says_that_a_pod_is_gone(cloud: PrimeCloud, api: PlayedApi, account: PrimeAccount) -> None:
    for answer in ((404, "<html>not here</html>"), (422, {"errors": [{"param": "pod_id", "details": "no uuid"}]}), (200, {"id": "other"})):
        account.instead["GET /pods/{}"] = partial(say, answer)
        with pytest.raises(CloudError):
            cloud.get("p1")
    api.broken.clear()


def test_the_key_goes_with_its_pod_and_no_other_does(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    one, two = spec(), spec()
    account.add_key("laptop", "ssh-ed25519 BBBB laptop")
    made = cloud.create(one, first(cloud))
    cloud.create(two, first(cloud))
    cloud.terminate(made.id)

    assert sorted(key["name"] for key in account.keys.values()) == sorted(["laptop", key_name(two)])


def test_the_key_goes_too_where_whoever_ends_the_pod_has_not_seen_it(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    pod = cloud.create(spec(), first(cloud))
    replace(cloud, _names={}).terminate(pod.id)
    assert not account.keys


def test_an_account_that_keeps_each_key_once_lends_the_one_it_has(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    cloud.create(spec(), first(cloud))
    account.instead["POST /ssh_keys/"] = lambda asked: (422, {"errors": [{"param": "publicKey", "details": "exists"}]})

    assert cloud.create(spec(), first(cloud)).status == "accepted"
    assert len(account.keys) == 1


def test_what_costs_money_is_told_by_state(cloud: PrimeCloud, account: PrimeAccount, spec: Make) -> None:
    states: dict[str, tuple[dict[str, Any], float]] = {
        "runs": ({"status": "ACTIVE", "stoppedPriceHr": 0.01}, 1.23),
        "stopped": ({"status": "STOPPED", "stoppedPriceHr": 0.01}, 0.01),
        "stopped, no price": ({"status": "STOPPED", "stoppedPriceHr": None}, 1.23),
        "made": ({"status": "PROVISIONING"}, 0.0),
        "made, priced": ({"status": "PROVISIONING", "provisioningPriceHr": 0.2}, 0.2),
        "made, no price": ({"status": "PROVISIONING", "provisioningPriceHr": None}, 1.23),
    }
    made = account.pods[cloud.create(spec(), first(cloud)).id]
    account.pods = {name: {**made, "id": name, "name": name, **state} for name, (state, _) in states.items()}
    account.disks = [{"id": "d1", "name": "data", "providerType": "hyperstack", "userId": "u1", "priceHr": 0.03, "status": "ACTIVE"}]

    costs = {item.id: (item.kind, item.per_hour) for item in cloud.costs() if item.kind != "ssh key"}
    assert {name: costs[name][1] for name in states} == {name: price for name, (_, price) in states.items()}
    assert costs["stopped"][0] == "stopped pod"
    assert costs["d1"] == ("volume", 0.03)


def test_the_bill_is_the_historys(cloud: PrimeCloud, account: PrimeAccount) -> None:
    row = {
        "name": "n", "providerType": "hyperstack", "type": "Instance", "createdAt": "2026-11-30T01:02:03Z", "gpuName": "H100_80GB",
        "gpuCount": 1,        "priceHr": 1.0, "userId": "u1",
    }  # fmt: skip
    account.history = [{**row, "id": f"other-{n}", "totalBilledPrice": 9.0} for n in range(120)]
    assert cloud.billed("p1") is None
    account.history.append({**row, "id": "p1", "totalBilledPrice": 0.75})

    assert cloud.billed("p1") == 0.75


def test_the_accounts_key_goes_into_no_create_request(cloud: PrimeCloud, api: PlayedApi, spec: Make) -> None:
    with pytest.raises(CloudRefused, match="never goes to a pod"):
        cloud.create(spec(env={"LOG": "pit_rehearsal_key"}), first(cloud))
    cloud.create(spec(), first(cloud))

    assert len(api.sent("POST", "/pods/")) == 1
    assert "pit_rehearsal_key" not in json.dumps(api.sent("POST", "/pods/"))


@pytest.mark.parametrize("changes", [{"image": "example/image:1"}, {"registry": "r"}, {"ports": ("22/tcp", "8888/http")}])
def test_what_only_a_container_has_is_refused_before_anything_is_sent(
    cloud: PrimeCloud, api: PlayedApi, spec: Make, changes: dict[str, object]
) -> None:
    offer = first(cloud)
    with pytest.raises(CloudRefused, match="Prime Intellect"):
        cloud.create(spec(**changes), offer)

    assert len(api.asked) == 1


def test_a_name_with_its_times_is_read_back_and_any_other_is_left_alone(spec: Make, cloud: PrimeCloud, api: PlayedApi) -> None:
    asked = spec()
    cloud.create(asked, first(cloud))
    sent = api.sent("POST", "/pods/")[0]["pod"]["name"]

    assert len(sent) <= 63, "the longest name that a host may have"
    assert parse_timed_name(sent.upper()) == (asked.name, asked.stop, asked.end)
    assert parse_timed_name(asked.name) == (asked.name, None, None)
    assert parse_timed_name("ty-my-own-machine-abcdef-123456") == ("ty-my-own-machine-abcdef-123456", None, None)


def test_no_pod_of_a_brokers_can_end_itself(cloud: PrimeCloud) -> None:
    able = cloud.capabilities

    assert (able.self_terminate, able.deadline, able.change_markers) == (False, False, False)
    with pytest.raises(CloudRefused, match="cannot change"):
        cloud.change_markers("a", None, None)
