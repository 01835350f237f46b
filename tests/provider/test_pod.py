"""Pod: its name, and that no sequence of faults makes two of them."""

from __future__ import annotations

import re

import pytest

from tests.leases.bench import FENCE, LEASE
from tests.provider.conftest import SEED, Bench, pod_inputs
from trainyard.clouds.marker import parse_name
from trainyard.errors import CloudError, CloudUnknown, NoCapacity, StillThere
from trainyard.leases import intents
from trainyard.provider.handler import CheckFailed, Partial, check, diff
from trainyard.provider.pod import POD, PodInputs
from trainyard.provider.values import UNKNOWN, Properties, SecretValue, Tree
from trainyard.remote.keys import host_key


def ready(bench: Bench, **more: Tree) -> Properties:
    intents.make_folder(bench.world.places.intents, LEASE)
    return bench.checked(POD, pod_inputs(**more))


def record(bench: Bench, inputs: Properties) -> intents.IntentRecord:
    return intents.settle(bench.world.places.intents / LEASE / str(inputs["name"]), lambda s: None)


def add(bench: Bench, inputs: Properties, **more: Tree) -> str:
    return bench.cloud.add(str(inputs["name"]), FENCE, LEASE, **more)


# Names


def test_a_name_carries_fence_lease_logical_name_and_hash(bench: Bench) -> None:
    name = parse_name(str(ready(bench)["name"]))
    assert name is not None
    assert (name.fence_id, name.lease_id, name.logical_name) == (FENCE, LEASE, "pod")


def test_the_same_inputs_make_the_same_name_on_another_machine(bench: Bench) -> None:
    assert ready(bench)["name"] == ready(bench)["name"]


@pytest.mark.parametrize(
    "change",
    [
        {"stop": "2027-01-15T09:00:00Z"},
        {"end": "2027-01-15T11:30:00Z"},
        {"budget": 5},
        {"max_price": 3},
        {"host_key_seed": "00" * 32},
        {"bucket": "b"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_make_another_pod_is_not_in_its_name(bench: Bench, change: dict[str, Tree]) -> None:
    assert ready(bench, **change)["name"] == ready(bench)["name"]


SHAPING: dict[str, Tree] = {
    "cloud": "other", "lease_id": "2" * 10, "fence_id": "3" * 10, "public_key": "ssh-ed25519 AAAA", "gpus": ["B", "A"], "gpu_count": 2,
    "disk_gb": 50, "regions": ["EU"], "tier": "SECURE", "spot": True, "image": "x", "template": "t", "volume": "v",
    "ports": ["8000/http"], "env": {"A": "1"}, "registry": "r", "only_offers": ["A-1"], "avoid_offers": ["A-1"], "min_cuda": "13.0",
    "min_vram_gb": 32.0,
}  # fmt: skip


@pytest.mark.parametrize("key", SHAPING)
def test_what_makes_another_pod_changes_the_name_and_replaces_with_deletion_first(bench: Bench, key: str) -> None:
    old, new = ready(bench), ready(bench, **{key: SHAPING[key]})
    assert old["name"] != new["name"]
    found = diff(POD, bench.call(), {}, old, new)
    assert found.delete_first
    assert found.changes[key].endswith("replace")


def test_every_input_is_either_hashed_or_named_here_as_not_hashed() -> None:
    from trainyard.provider.model import properties

    never = {"stop", "end", "budget", "heartbeat_minutes", "idle_minutes", "stall_minutes", "max_price", "host_key_seed", "store", "bucket"}
    never |= {"reliability", "inet_down", "options", "container_bundle", "container_secrets"}
    assert {item.name for item in properties(PodInputs)} == set(SHAPING) | never


@pytest.mark.parametrize("key", SHAPING)
def test_an_unknown_shaping_input_makes_an_unknown_name(bench: Bench, key: str) -> None:
    assert bench.checked(POD, pod_inputs(**{key: UNKNOWN}))["name"] is UNKNOWN


def test_a_long_logical_name_is_shortened_where_the_cloud_has_no_room_for_it(bench: Bench) -> None:
    names = [
        parse_name(str(check(POD, bench.call(name), None, pod_inputs(cloud=cloud))["name"]))
        for name in ("trainer-1", "pod-1")
        for cloud in ("model", "jarvislabs")
    ]
    long, short, *others = [name.logical_name for name in names if name]

    assert (long, others) == ("trainer-1", ["pod-1", "pod-1"])
    assert len(short) == 5 and short.startswith("tr")


def test_an_unknown_deadline_does_not_make_the_name_unknown(bench: Bench) -> None:
    assert isinstance(bench.checked(POD, pod_inputs(stop=UNKNOWN, end=UNKNOWN))["name"], str)


def test_old_inputs_of_equal_value_keep_the_old_name_also_where_a_default_was_not_written_then(bench: Bench) -> None:
    new = pod_inputs(gpu_count=1, disk_gb=100, spot=False, ports=["22/tcp"])
    old = {**pod_inputs(), "name": f"ty-{FENCE}-{LEASE}-pod-00000000"}
    assert bench.checked(POD, new, old)["name"] == old["name"]
    assert bench.checked(POD, {**new, "spot": True}, old)["name"] != old["name"]


def test_a_given_default_and_an_absent_one_make_the_same_name(bench: Bench) -> None:
    assert ready(bench, gpu_count=1, disk_gb=100)["name"] == ready(bench)["name"]


def test_wrong_inputs_are_named(bench: Bench) -> None:
    with pytest.raises(CheckFailed) as caught:
        bench.checked(POD, pod_inputs(gpus="A", gpu_count=1.5, gpu_cuont=1, spot="yes"))
    assert {item.property for item in caught.value.failures} == {"gpus", "gpu_count", "gpu_cuont", "spot"}
    assert "did you mean 'gpu_count'" in str(caught.value)


@pytest.mark.parametrize("key", ["lease_id", "fence_id", "end", "public_key"])
def test_a_pod_without_lease_is_refused(bench: Bench, key: str) -> None:
    inputs = pod_inputs()
    del inputs[key]
    with pytest.raises(CheckFailed, match=f"'{key}' is required"):
        bench.checked(POD, inputs)


def test_the_seed_stays_secret_in_the_inputs_that_go_to_state(bench: Bench) -> None:
    assert bench.checked(POD, pod_inputs())["host_key_seed"] == SecretValue(SEED)


# Create


def test_create_rents_the_first_offer_and_writes_intent_before_and_outcome_after(bench: Bench) -> None:
    inputs = ready(bench)
    pod_id, outputs = POD.create(bench.call(), inputs)
    assert bench.cloud.alive() == [pod_id]
    assert outputs["name"] == inputs["name"] == bench.cloud.state(pod_id)["name"]
    assert outputs["offer"] == "A-1"
    assert outputs["price_per_hour"] == 1.0
    assert record(bench, inputs) == intents.IntentRecord(bench.at[0], True, bench.at[0], (pod_id,))


def test_the_request_carries_host_key_watchdog_price_and_budget_but_no_key_of_an_account(bench: Bench) -> None:
    inputs = ready(bench, budget=7, heartbeat_minutes=30, env={"X": "1"})
    pod_id, outputs = POD.create(bench.call(), inputs)
    state, key = bench.cloud.state(pod_id), host_key(bytes.fromhex(SEED), str(inputs["name"]))
    assert state["host_key"] == key.private_pem
    assert outputs["host_key"] == key.public
    assert state["env"] == {
        "X": "1", "TRAINYARD_HOST_KEY": key.public, "TRAINYARD_PRICE": "1.000000", "TRAINYARD_BUDGET": "7.00",
        "TRAINYARD_HEARTBEAT_MINUTES": "30",
    }  # fmt: skip
    assert "watchdog" in state["boot"][-1]


def test_our_own_image_starts_the_watchdog_itself(bench: Bench) -> None:
    pod_id, _ = POD.create(bench.call(), ready(bench, image="ghcr.io/x/trainyard-trainer@sha256:ab"))
    assert bench.cloud.state(pod_id)["boot"] == []


def test_an_image_that_a_tag_names_is_told_at_preview_already(bench: Bench) -> None:
    bench.checked(POD, pod_inputs(image="ghcr.io/me/trainyard-trainer:1"), preview=True)
    assert any("named by a tag, which can move" in message for message in bench.messages)
    bench.messages.clear()
    bench.checked(POD, pod_inputs(image="ghcr.io/me/trainyard-trainer@sha256:00"))
    bench.checked(POD, pod_inputs())
    assert bench.messages == []


def test_a_pod_that_exists_after_an_unclear_answer_is_a_partial_failure_with_the_id(bench: Bench) -> None:
    bench.cloud.set_faults(create=["accepted-error"])
    inputs = ready(bench)
    with pytest.raises(Partial) as caught:
        POD.create(bench.call(), inputs)
    assert [caught.value.id] == bench.cloud.alive() and caught.value.properties["pod_id"] == caught.value.id
    assert record(bench, inputs).ids == (caught.value.id,)


def test_a_pod_that_an_earlier_attempt_left_is_adopted(bench: Bench) -> None:
    inputs = ready(bench)
    pod_id = add(bench, inputs)
    found, outputs = POD.create(bench.call(), inputs)
    assert found == pod_id and outputs["offer"] is None and bench.cloud.calls("create") == 0


def test_the_choice_of_offers_and_the_limit_reach_the_cloud(bench: Bench) -> None:
    _, outputs = POD.create(bench.call(), ready(bench, avoid_offers=["A-1"], max_price=4))
    assert outputs["offer"] == "B-1"
    intents.make_folder(bench.world.places.intents, "2" * 10)
    bench.cloud.set_faults(dearer=["10"])
    with pytest.raises(NoCapacity, match=r"costs \$20\.00/h, allowed are \$4\.00/h"):
        POD.create(bench.call(), bench.checked(POD, pod_inputs(lease_id="2" * 10, only_offers=["B-1", "gone"], max_price=4)))


# Read, Update, Delete


def test_read_says_gone_only_on_the_cloud_s_positive_word(bench: Bench) -> None:
    inputs = ready(bench)
    pod_id, outputs = POD.create(bench.call(), inputs)
    bench.cloud.set_faults(get=["503"])
    with pytest.raises(CloudUnknown):
        POD.read(bench.call(), pod_id, outputs, inputs)
    assert POD.read(bench.call(), pod_id, outputs, inputs).id == pod_id
    bench.cloud.terminate(pod_id)
    assert POD.read(bench.call(), pod_id, outputs, inputs).id == ""


def test_read_finds_a_pod_that_listings_do_not_show_yet(bench: Bench) -> None:
    inputs = ready(bench)
    pod_id, outputs = POD.create(bench.call(), inputs)
    bench.cloud.change(pod_id, visible=bench.at[0] + 1000)
    assert POD.read(bench.call(), pod_id, outputs, inputs).id == pod_id


def test_read_without_id_adopts_what_a_lost_create_left(bench: Bench) -> None:
    inputs = ready(bench)
    pod_id = add(bench, inputs)
    found = POD.read(bench.call(), "", {}, inputs)
    assert (found.id, found.inputs) == (pod_id, inputs)
    assert found.properties["host_key"] == host_key(bytes.fromhex(SEED), str(inputs["name"])).public
    assert record(bench, inputs).ids == (pod_id,)


def test_read_without_id_says_absent_only_after_the_intent_s_wait_and_rents_nothing(bench: Bench) -> None:
    inputs = bench.checked(POD, pod_inputs())
    began = bench.at[0]
    assert POD.read(bench.call(), "", {}, inputs).id == ""
    assert bench.at[0] - began >= bench.cloud.capabilities.post_timeout + bench.cloud.capabilities.settle
    assert bench.cloud.calls("create") == 0


def test_update_moves_the_markers_and_nothing_else(bench: Bench) -> None:
    inputs = ready(bench)
    pod_id, outputs = POD.create(bench.call(), inputs)
    later = {**inputs, "end": "2027-01-15T12:30:00Z"}
    assert POD.update(bench.call(), pod_id, outputs, inputs, later) == outputs
    assert bench.cloud.state(pod_id)["end"] == "2027-01-15T12:30:00Z"
    assert bench.cloud.calls("create") == 1


def test_update_of_a_pod_that_the_cloud_denies_says_so(bench: Bench) -> None:
    inputs = ready(bench)
    with pytest.raises(CloudError, match="says that it has no pod p99"):
        POD.update(bench.call(), "p99", {}, inputs, inputs)


def test_delete_asks_again_until_the_pod_goes(bench: Bench) -> None:
    inputs = ready(bench)
    pod_id, outputs = POD.create(bench.call(), inputs)
    bench.cloud.set_faults(**{"terminate/ignored": ["yes", "yes"]})
    POD.delete(bench.call(), pod_id, outputs, inputs)
    assert bench.cloud.alive() == []
    assert bench.cloud.calls("terminate") == 3


def test_delete_that_is_never_heeded_fails_with_id_and_price(bench: Bench) -> None:
    inputs = ready(bench)
    pod_id, outputs = POD.create(bench.call(), inputs)
    bench.cloud.set_faults(**{"terminate/ignored": "yes"})
    with pytest.raises(StillThere, match=re.escape(f"pod {pod_id} is still there (RUNNING, $1.00 per hour)")):
        POD.delete(bench.call(), pod_id, outputs, inputs)


def test_delete_of_a_pod_that_is_gone_succeeds(bench: Bench) -> None:
    POD.delete(bench.call(), "p99", {}, ready(bench))
