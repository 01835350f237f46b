"""Lambda's adapter against its API as the specification has it; each trap that costs money has a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.clouds.lambdacloud.conftest import LambdaAccount, error
from tests.clouds.played import PlayedApi, say
from tests.clouds.runpod.scripted import TurnedPace
from trainyard.clouds.lambdacloud import LambdaCloud
from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.clouds.vm import key_name, stale
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError

Make = Callable[..., PodSpec]
A10 = Offer("gpu_1x_a10|us-west-1", "lambda", "A10 (24 GB PCIe)", 1, 0.75, "us-west-1")


def test_offers_keep_the_order_of_preference_and_have_room(cloud: LambdaCloud) -> None:
    offers = cloud.offers(OfferQuery(gpus=("H100", "a10"), gpu_count=1))

    assert [(o.id, o.price_per_hour) for o in offers] == [
        ("gpu_1x_h100_pcie|us-west-1", 2.49), ("gpu_1x_h100_sxm5|us-east-1", 3.29),
        ("gpu_1x_a10|us-west-1", 0.75), ("gpu_1x_a10|us-east-1", 0.75),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (OfferQuery(gpus=("H100",), gpu_count=8), ["gpu_8x_h100_sxm5|us-east-1"]),
        (OfferQuery(gpus=("H100", "A10"), regions=("us-west",)), ["gpu_1x_h100_pcie|us-west-1", "gpu_1x_a10|us-west-1"]),
        (OfferQuery(gpus=("H100", "A10"), max_price=1.0, regions=("us-east-1",)), ["gpu_1x_a10|us-east-1"]),
        (OfferQuery(gpus=("A10", "A6000"), min_vram_gb=48), ["gpu_1x_a6000|us-west-1"]),
        (OfferQuery(gpus=("A100",), disk_gb=600), []),
        (OfferQuery(gpus=("A100 80GB",)), []),
        (OfferQuery(), ["cpu_4x_general|us-west-1"]),
    ],
)
def test_offers_are_what_the_query_allows(cloud: LambdaCloud, query: OfferQuery, ids: list[str]) -> None:
    assert [offer.id for offer in cloud.offers(query)] == ids


def test_a_gpu_or_region_that_is_not_known_and_spot_are_refused_by_name(cloud: LambdaCloud) -> None:
    with pytest.raises(UserError, match="no GPU is called 'H1000'"):
        cloud.offers(OfferQuery(gpus=("H1000",)))
    with pytest.raises(UserError, match="no region 'mars'"):
        cloud.offers(OfferQuery(gpus=("A10",), regions=("mars",)))
    with pytest.raises(UserError, match="no spot"):
        cloud.offers(OfferQuery(gpus=("A10",), spot=True))


def test_a_launch_brings_the_runs_key_and_all_marks(cloud: LambdaCloud, api: PlayedApi, account: LambdaAccount, spec: Make) -> None:
    asked = spec()
    info = cloud.create(asked, A10)

    (body,) = api.sent("POST", "/launch")
    assert body["ssh_key_names"] == [key_name(asked)]
    assert [(key["name"], key["public_key"]) for key in account.keys.values()] == [(key_name(asked), asked.public_key)]
    assert "quantity" not in body
    assert "secret_rehearsal_key" not in json.dumps(body)
    (seen,) = cloud.list()
    assert seen == info
    assert (seen.name, seen.fence_id, seen.lease_id, seen.stop, seen.end) == (
        asked.name,
        asked.fence_id,
        asked.lease_id,
        asked.stop,
        asked.end,
    )
    assert (seen.host_key or "").startswith("ssh-ed25519 ")
    assert (seen.status, seen.ssh, seen.price_per_hour, seen.gpu_count) == ("starting", None, 0.75, 1)


def test_marks_are_read_from_the_tags_of_a_machine_that_somebody_renamed(cloud: LambdaCloud, account: LambdaAccount, spec: Make) -> None:
    asked = spec()
    made = cloud.create(asked, A10)
    account.instances[made.id]["name"] = "my machine"

    assert [(pod.name, pod.lease_id) for pod in cloud.list()] == [(asked.name, asked.lease_id)]


def test_a_name_longer_than_lambda_takes_is_whole_in_the_tags(cloud: LambdaCloud, api: PlayedApi, spec: Make) -> None:
    plain = spec()
    long = plain.name.replace("-pod-", "-a-pod-with-a-name-that-goes-on-and-on-and-on-")

    assert cloud.create(replace(plain, name=long), A10).name == long
    assert len(api.sent("POST", "/launch")[0]["name"]) == 64


@pytest.mark.parametrize(
    ("status", "ip", "address", "said"),
    [
        ("booting", None, None, "starting"),
        ("booting", "198.51.100.2", None, "starting"),
        ("active", None, None, "running"),
        ("active", "198.51.100.2", ("198.51.100.2", 22, "ubuntu"), "running"),
        ("active", "me@127.0.0.1:2022", ("127.0.0.1", 2022, "me"), "running"),
        ("unhealthy", "198.51.100.2", ("198.51.100.2", 22, "ubuntu"), "running"),
        ("preempted", "198.51.100.2", None, "exited"),
        ("terminating", "198.51.100.2", None, "terminating"),
    ],
)
def test_states_and_a_missing_address(
    cloud: LambdaCloud, account: LambdaAccount, spec: Make, status: str, ip: str | None, address: object, said: str
) -> None:
    made = cloud.create(spec(), A10)
    account.instances[made.id] |= {"status": status, **({"ip": ip} if ip else {})}
    info = cloud.get(made.id)

    assert info is not None
    assert (info.status, info.ssh and (info.ssh.host, info.ssh.port, info.ssh.user)) == (said, address)


def test_a_state_that_is_new_is_unknown_and_the_pod_is_listed(
    cloud: LambdaCloud, api: PlayedApi, account: LambdaAccount, spec: Make
) -> None:
    account.instances[cloud.create(spec(), A10).id]["status"] = "hibernating"

    assert [(pod.status, pod.raw_status) for pod in cloud.list()] == [("unknown", "hibernating")]
    api.broken.clear()  # a word that the specification has not


def test_what_is_terminated_is_gone_and_what_is_terminating_is_not(cloud: LambdaCloud, account: LambdaAccount, spec: Make) -> None:
    made = cloud.create(spec(), A10)
    cloud.terminate(made.id)
    assert [pod.status for pod in cloud.list()] == ["terminating"]
    account.instances[made.id]["status"] = "terminated"

    assert cloud.list() == []
    assert cloud.get(made.id) is None


@pytest.mark.parametrize(
    ("answer", "kind", "key_stays"),
    [
        (error("instance-operations/launch/insufficient-capacity"), NoCapacity, False),
        (error("global/quota-exceeded"), CloudRefused, False),
        (error("global/invalid-parameters"), CloudRefused, False),
        (error("global/invalid-api-key", 401), CloudRefused, False),
        (error("global/account-inactive", 403), CloudRefused, False),
        (error("instance-operations/launch/file-system-in-wrong-region"), CloudRefused, False),
        (error("global/object-does-not-exist", 404), CloudRefused, False),
        (error("global/internal-error", 500), CloudUnknown, True),
        (error("provider/internal-unavailable", 503), CloudUnknown, True),
        (error("provider/quota", 400), CloudUnknown, True),
        ((502, "<html>Bad gateway</html>"), CloudUnknown, True),
        ((400, "<html>no</html>"), CloudUnknown, True),
        ((200, {"data": {"instance_ids": []}}), CloudUnknown, True),
        ((200, {"data": {"instance_ids": ["a", "b"]}}), CloudUnknown, True),
        ((0, None), CloudUnknown, True),
    ],
)
def test_codes_decide_whether_something_may_have_been_made(
    cloud: LambdaCloud, account: LambdaAccount, spec: Make, answer: tuple[int, object], kind: type[CloudError], key_stays: bool
) -> None:
    account.instead["POST /instance-operations/launch"] = lambda asked: answer

    with pytest.raises(kind) as caught:
        cloud.create(spec(), A10)

    assert type(caught.value) is kind
    assert bool(account.keys) is key_stays


def test_a_message_that_changes_changes_nothing(cloud: LambdaCloud, account: LambdaAccount, spec: Make) -> None:
    told = error("global/quota-exceeded", message="Not enough capacity to fulfill launch request.")
    account.instead["POST /instance-operations/launch"] = lambda asked: told

    with pytest.raises(CloudRefused):
        cloud.create(spec(), A10)


def test_a_launch_whose_answer_is_lost_is_sent_once_and_found_by_its_name(
    cloud: LambdaCloud, api: PlayedApi, account: LambdaAccount, spec: Make
) -> None:
    account.instead["POST /instance-operations/launch"] = lambda asked: (0, account.launch(asked))
    asked = spec()
    with pytest.raises(CloudUnknown):
        cloud.create(asked, A10)

    assert len(api.sent("POST", "/launch")) == 1
    assert [(pod.name, pod.lease_id) for pod in cloud.list()] == [(asked.name, asked.lease_id)]


def test_a_launch_that_is_answered_with_anothers_machine_is_not_taken_for_ours(
    cloud: LambdaCloud, account: LambdaAccount, spec: Make
) -> None:
    other = cloud.create(spec(), A10)
    account.instead["POST /instance-operations/launch"] = lambda asked: (200, {"data": {"instance_ids": [other.id]}})

    with pytest.raises(CloudUnknown, match="another instance"):
        cloud.create(spec(), A10)


def test_a_machine_that_cannot_be_shown_yet_is_known_by_its_id(cloud: LambdaCloud, account: LambdaAccount, spec: Make) -> None:
    account.instead["GET /instances/{}"] = lambda asked: error("global/object-does-not-exist", 404)
    asked = spec()
    info = cloud.create(asked, A10)

    assert (info.id, info.name, info.lease_id, info.price_per_hour) == (next(iter(account.instances)), asked.name, asked.lease_id, None)


def test_a_page_of_a_proxy_is_no_word_that_a_machine_is_gone(cloud: LambdaCloud, api: PlayedApi, account: LambdaAccount) -> None:
    for answer in ((404, "<html>not here</html>"), (404, {"error": {"code": "global/not-found", "message": "no route"}})):
        account.instead["GET /instances/{}"] = partial(say, answer)
        with pytest.raises(CloudError):
            cloud.get("a" * 32)
    account.instead["GET /instances"] = lambda asked: (200, {"data": None})
    with pytest.raises(CloudUnknown):
        cloud.list()
    api.broken.clear()


def test_an_end_is_taken_when_lambda_names_the_machine(cloud: LambdaCloud, api: PlayedApi, account: LambdaAccount, spec: Make) -> None:
    made = cloud.create(spec(), A10)
    account.instead["POST /instance-operations/terminate"] = lambda asked: (200, {"data": {"terminated_instances": []}})
    with pytest.raises(CloudUnknown):
        cloud.terminate(made.id)
    del account.instead["POST /instance-operations/terminate"]
    account.instances.clear()

    cloud.terminate(made.id)  # the cloud's own word that there is none: nothing is left to do


def test_requests_keep_lambdas_distance(cloud: LambdaCloud, pace: TurnedPace, spec: Make) -> None:
    for _ in range(3):
        cloud.list()
    assert len(pace.slept) == 2
    assert pace.time - 1000 >= 2
    cloud.create(spec(), A10)
    before = pace.time
    cloud.create(spec(), A10)

    assert pace.time - before >= 11


def test_a_limit_that_others_have_used_up_is_waited_for(cloud: LambdaCloud, account: LambdaAccount, spec: Make, pace: TurnedPace) -> None:
    answers = [error("global/quota-exceeded", 429)]
    account.instead["POST /instance-operations/launch"] = lambda asked: answers.pop() if answers else account.launch(asked)

    assert cloud.create(spec(), A10).status == "starting"
    assert len(account.instances) == 1


def test_the_key_goes_with_its_pod_and_no_other_does(cloud: LambdaCloud, account: LambdaAccount, spec: Make) -> None:
    first, second = spec(), spec()
    account.add_key("laptop", "ssh-ed25519 BBBB laptop")
    made = cloud.create(first, A10)
    cloud.create(second, A10)
    cloud.terminate(made.id)

    assert sorted(key["name"] for key in account.keys.values()) == sorted(["laptop", key_name(second)])


def test_a_retry_uses_the_key_that_is_there(cloud: LambdaCloud, account: LambdaAccount, spec: Make) -> None:
    asked = spec()
    account.add_key(key_name(asked), "ssh-ed25519 AAAA")
    cloud.create(asked, A10)

    assert len(account.keys) == 1


def test_a_persons_own_key_is_used_and_stays(cloud: LambdaCloud, api: PlayedApi, account: LambdaAccount, spec: Make) -> None:
    account.add_key("laptop", "ssh-ed25519 AAAA laptop")
    cloud.terminate(cloud.create(spec(), A10).id)

    assert api.sent("POST", "/launch")[0]["ssh_key_names"] == ["laptop"]
    assert [key["name"] for key in account.keys.values()] == ["laptop"]


def test_a_key_whose_answer_is_lost_is_found_and_one_that_nobody_knows_of_asks_for_no_machine(
    cloud: LambdaCloud, api: PlayedApi, account: LambdaAccount, spec: Make
) -> None:
    account.instead["POST /ssh-keys"] = lambda asked: (0, account.add_key(asked.body["name"], asked.body["public_key"]))
    cloud.create(spec(), A10)
    assert len(account.keys) == 1
    account.instead["POST /ssh-keys"] = lambda asked: (0, None)
    with pytest.raises(CloudRefused, match="no pod was asked for"):
        cloud.create(spec(), A10)

    assert len(api.sent("POST", "/launch")) == 1


def test_keys_of_leases_that_are_over_are_stale_and_shown_in_the_audit(cloud: LambdaCloud, account: LambdaAccount, spec: Make) -> None:
    now = datetime.now(UTC)
    over, runs = spec(end=now - timedelta(hours=1)), spec()
    for name in (key_name(over), key_name(runs), "ty-laptop"):
        account.add_key(name, "ssh-ed25519 AAAA")

    assert [key.name for key in stale(cloud.ssh_keys(), now)] == [key_name(over)]
    assert [(item.kind, item.name, item.per_hour, item.ours) for item in cloud.costs()] == [
        ("ssh key", key_name(over), 0.0, True), ("ssh key", key_name(runs), 0.0, True),
    ]  # fmt: skip


def test_a_preempted_machine_is_told_with_a_price_that_nobody_knows(cloud: LambdaCloud, account: LambdaAccount, spec: Make) -> None:
    running, lost = cloud.create(spec(), A10), cloud.create(spec(), A10)
    account.instances[lost.id]["status"] = "preempted"

    costs = {item.id: (item.kind, item.per_hour) for item in cloud.costs() if item.kind != "ssh key"}
    assert costs == {running.id: ("pod", 0.75), lost.id: ("stopped pod", None)}


@pytest.mark.parametrize("changes", [{"image": "example/image:1"}, {"registry": "r"}, {"ports": ("22/tcp", "8888/http")}])
def test_what_only_a_container_has_is_refused_before_anything_is_sent(
    cloud: LambdaCloud, api: PlayedApi, spec: Make, changes: dict[str, object]
) -> None:
    with pytest.raises(CloudRefused, match="Lambda"):
        cloud.create(spec(**changes), A10)

    assert api.asked == []


def test_the_accounts_key_goes_into_no_create_request(cloud: LambdaCloud, api: PlayedApi, spec: Make) -> None:
    with pytest.raises(CloudRefused, match="never goes to a pod"):
        cloud.create(spec(env={"LOG": "secret_rehearsal_key"}), A10)

    assert api.asked == []


def test_no_machine_of_lambdas_can_end_itself(cloud: LambdaCloud) -> None:
    able = cloud.capabilities

    assert (able.self_terminate, able.deadline, able.change_markers) == (False, False, False)
    with pytest.raises(CloudRefused, match="cannot change"):
        cloud.change_markers("a", None, None)
