"""Pod: its name, and that no sequence of faults makes two of them."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import nullcontext
from dataclasses import replace

import pytest

from tests.leases.bench import FENCE, LEASE, lie_once_from
from tests.provider.conftest import SEED, Bench, pod_inputs
from trainyard.clouds.absence import LEAVE
from trainyard.clouds.marker import parse_name
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, RefusedError, StillThere
from trainyard.leases import intents
from trainyard.leases.world import Interrupted
from trainyard.provider.handler import CheckFailed, Partial, diff
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

    never = {"stop", "end", "budget", "heartbeat_minutes", "max_price", "host_key_seed", "store", "bucket"}
    assert {item.name for item in properties(PodInputs)} == set(SHAPING) | never


@pytest.mark.parametrize("key", SHAPING)
def test_an_unknown_shaping_input_makes_an_unknown_name(bench: Bench, key: str) -> None:
    assert bench.checked(POD, pod_inputs(**{key: UNKNOWN}))["name"] is UNKNOWN


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


def test_no_capacity_moves_on_to_the_next_offer(bench: Bench) -> None:
    bench.cloud.set_faults(**{"create/A-1": ["no-capacity"]})
    _, outputs = POD.create(bench.call(), ready(bench))
    assert outputs["offer"] == "B-1"


def test_a_refusal_of_the_request_itself_does_not_try_other_offers(bench: Bench) -> None:
    bench.cloud.set_faults(create=["refused"])
    inputs = ready(bench)
    with pytest.raises(CloudRefused):
        POD.create(bench.call(), inputs)
    assert bench.cloud.calls("create") == 1
    assert record(bench, inputs).resolved


def test_when_no_offer_is_left_the_error_names_each(bench: Bench) -> None:
    bench.cloud.set_faults(create=["no-capacity", "no-capacity"])
    with pytest.raises(NoCapacity, match="A-1: A-1 is taken; B-1: B-1 is taken"):
        POD.create(bench.call(), ready(bench))


def test_offers_can_be_chosen_and_avoided(bench: Bench) -> None:
    _, outputs = POD.create(bench.call(), ready(bench, avoid_offers=["A-1"]))
    assert outputs["offer"] == "B-1"
    intents.make_folder(bench.world.places.intents, "2" * 10)
    _, outputs = POD.create(bench.call(), bench.checked(POD, pod_inputs(lease_id="2" * 10, only_offers=["B-1", "gone"])))
    assert outputs["offer"] == "B-1"


def test_a_pod_whose_price_turns_out_too_high_is_ended_before_the_next_offer_is_asked(bench: Bench) -> None:
    bench.cloud.set_faults(dearer=["10"])
    pod_id, outputs = POD.create(bench.call(), ready(bench, max_price=4))
    assert (outputs["offer"], outputs["price_per_hour"]) == ("B-1", 2.0)
    assert bench.cloud.alive() == [pod_id]
    dear, kept = intents.accepted(bench.world.places.intents, LEASE)
    assert dear.price == 10.0 and dear.ended is not None and dear.ended <= kept.at and kept.id == pod_id
    assert any("$10.00/h, allowed are $4.00/h" in text for text in bench.messages)


def test_a_pod_found_after_an_unclear_answer_is_held_to_the_price_as_well(bench: Bench) -> None:
    bench.cloud.set_faults(create=["accepted-error"], dearer=["10"])
    pod_id, outputs = POD.create(bench.call(), ready(bench, max_price=4))
    assert bench.cloud.alive() == [pod_id] and outputs["offer"] == "B-1"


def test_when_every_answer_is_too_dear_nothing_is_left_and_each_is_told(bench: Bench) -> None:
    bench.cloud.set_faults(dearer=["10", "10"])
    with pytest.raises(NoCapacity, match=r"A-1: its pod .* costs \$10\.00/h.*; B-1: its pod .* costs \$20\.00/h"):
        POD.create(bench.call(), ready(bench))
    assert bench.cloud.alive() == []


def test_a_pod_too_dear_that_a_crash_left_is_ended_and_not_adopted(bench: Bench) -> None:
    inputs = ready(bench, max_price=4)
    dear = add(bench, inputs, price=9.0)
    pod_id, outputs = POD.create(bench.call(), inputs)
    assert bench.cloud.alive() == [pod_id] and pod_id != dear
    assert outputs["offer"] == "A-1"


def test_a_pod_too_dear_that_cannot_be_ended_is_told_and_nothing_else_is_rented(bench: Bench) -> None:
    bench.cloud.set_faults(dearer=["10"], terminate="error")
    with pytest.raises(StillThere, match=r"\$10\.00/h"):
        POD.create(bench.call(), ready(bench, max_price=4))
    assert bench.cloud.calls("create") == 1


def test_one_error_before_anything_was_made_gets_one_retry_once_that_is_proved(bench: Bench) -> None:
    bench.cloud.set_faults(create=["error"])
    inputs, began = ready(bench), bench.at[0]
    pod_id, outputs = POD.create(bench.call(), inputs)
    needs = bench.cloud.capabilities
    assert bench.cloud.alive() == [pod_id] and outputs["offer"] == "A-1"
    assert bench.at[0] - began >= needs.post_timeout + needs.settle, "the first request could still have made one"
    assert bench.cloud.calls("create") == 2


def test_the_retry_finds_a_pod_that_shows_late_and_rents_no_second_one(bench: Bench) -> None:
    bench.cloud.set_faults(create=["error"])
    inputs = ready(bench)
    bench.during += [lambda: None] * 14 + [lambda: [add(bench, inputs)]]  # type: ignore[list-item]
    with pytest.raises(Partial) as caught:
        POD.create(bench.call(), inputs)
    assert bench.cloud.alive() == [caught.value.id] and bench.cloud.calls("create") == 1


def test_a_second_unclear_error_never_moves_on_and_leaves_the_outcome_open(bench: Bench) -> None:
    bench.cloud.set_faults(create=["error", "error"])
    inputs = ready(bench)
    with pytest.raises(CloudUnknown, match="502"):
        POD.create(bench.call(), inputs)
    assert bench.cloud.calls("create") == 2
    assert not record(bench, inputs).resolved


@pytest.mark.parametrize("fault", ["accepted-error", "accepted-crash", "error-then-late"])
def test_an_unclear_error_after_the_cloud_accepted_is_a_partial_failure_with_the_id(bench: Bench, fault: str) -> None:
    bench.cloud.set_faults(create=[fault])
    inputs = ready(bench)
    with pytest.raises(Partial) as caught:
        POD.create(bench.call(), inputs)
    assert [caught.value.id] == bench.cloud.alive()
    assert caught.value.properties["pod_id"] == caught.value.id
    assert record(bench, inputs).ids == (caught.value.id,)


def test_a_retry_after_an_unclear_error_waits_until_nothing_can_appear_any_more(bench: Bench) -> None:
    bench.cloud.set_faults(create=["error", "error"])
    inputs = ready(bench)
    with pytest.raises(CloudUnknown):
        POD.create(bench.call(), inputs)
    started = record(bench, inputs).start
    assert started is not None
    lists = bench.cloud.calls("list")
    POD.create(bench.call(), inputs)
    again = record(bench, inputs).start
    assert again is not None
    assert again >= started + bench.cloud.capabilities.post_timeout + bench.cloud.capabilities.settle
    assert bench.cloud.calls("list") - lists >= bench.cloud.capabilities.listings
    assert len(bench.cloud.alive()) == 1


def test_a_pod_that_appears_late_is_adopted_and_no_second_one_is_rented(bench: Bench) -> None:
    inputs = ready(bench)
    path = bench.world.places.intents / LEASE / str(inputs["name"])
    with intents.hold(path.parent.parent, path.name, 0, lambda s: None) as intent:
        intent.start("A-1", bench.at[0])
    bench.during += [lambda: None] * 3 + [lambda: [add(bench, inputs)]]  # type: ignore[list-item]
    pod_id, outputs = POD.create(bench.call(), inputs)
    assert [pod_id] == bench.cloud.alive()
    assert bench.cloud.calls("create") == 0
    assert outputs["offer"] is None
    assert record(bench, inputs).resolved


def test_a_pod_whose_answer_was_recorded_is_adopted_though_listings_do_not_show_it_yet(bench: Bench) -> None:
    """The engine died between the provider's outcome and its own record; the next one comes sooner than the listing."""
    inputs = ready(bench)
    pod_id, _ = POD.create(bench.call(), inputs)
    bench.cloud.change(pod_id, visible=bench.at[0] + 1000)
    assert POD.create(bench.call(), inputs)[0] == pod_id
    assert POD.read(bench.call(), "", {}, inputs).id == pod_id
    assert bench.cloud.calls("create") == 1


def test_one_empty_listing_is_no_proof_where_the_cloud_needs_two(bench: Bench) -> None:
    inputs = ready(bench)
    path = bench.world.places.intents / LEASE / str(inputs["name"])
    with intents.hold(path.parent.parent, path.name, 0, lambda s: None) as intent:
        intent.start("A-1", bench.at[0])
    until = bench.at[0] + bench.cloud.capabilities.post_timeout + bench.cloud.capabilities.settle
    pod_id = add(bench, inputs, visible=until)
    lie_once_from(bench, until)
    assert POD.create(bench.call(), inputs)[0] == pod_id
    assert bench.cloud.calls("create") == 0


def test_of_two_namesakes_the_oldest_is_kept_and_the_other_ended(bench: Bench) -> None:
    inputs = ready(bench)
    young = add(bench, inputs, created=bench.at[0] - 5)
    old = add(bench, inputs, created=bench.at[0] - 10)
    assert POD.create(bench.call(), inputs)[0] == old
    assert bench.cloud.alive() == [old] != [young]


def test_a_pod_of_an_older_spec_of_the_same_lease_is_ended_before_another_is_rented(bench: Bench) -> None:
    inputs = ready(bench)
    old = bench.cloud.add(f"ty-{FENCE}-{LEASE}-pod-00000000", FENCE, LEASE)
    bench.cloud.set_faults(leave=3)
    order: list[bool] = []
    bench.during.append(lambda: order.append(bench.cloud.calls("create") == 0))
    pod_id, _ = POD.create(bench.call(), inputs)
    assert order == [True]
    assert bench.cloud.alive() == [pod_id] != [old]


def test_a_list_that_misses_the_pod_of_an_older_spec_does_not_make_two(bench: Bench) -> None:
    """Its delete was heeded by nobody and an untrue 404 called it gone; then another spec is created under the same lease."""
    old, _ = POD.create(bench.call(), ready(bench))
    bench.cloud.change(old, visible=bench.at[0] + 10_000)
    new, _ = POD.create(bench.call(), ready(bench, disk_gb=7))
    assert bench.cloud.alive() == [new] and new != old


def test_pods_of_others_are_left_alone(bench: Bench) -> None:
    inputs = ready(bench)
    others = [
        bench.cloud.add(str(inputs["name"]).replace(LEASE, "9" * 10), FENCE, "9" * 10),
        bench.cloud.add(f"ty-{FENCE}-{LEASE}-other-00000000", FENCE, LEASE),
        bench.cloud.add("somebody", None, None),  # type: ignore[arg-type]
    ]
    pod_id, _ = POD.create(bench.call(), inputs)
    assert set(bench.cloud.alive()) == {pod_id, *others}


@pytest.mark.parametrize("status", ["terminating", "exited", "error"])
def test_a_dead_or_leaving_namesake_is_not_adopted_but_waited_for(bench: Bench, status: str) -> None:
    inputs = ready(bench)
    bench.cloud.set_faults(leave=4)
    dead = add(bench, inputs, status=status, leaves=bench.at[0] + 4)
    pod_id, _ = POD.create(bench.call(), inputs)
    assert pod_id != dead
    assert bench.cloud.alive() == [pod_id]


def test_a_namesake_that_never_leaves_is_an_error_and_nothing_is_rented(bench: Bench) -> None:
    inputs = ready(bench)
    add(bench, inputs, status="terminating", leaves=bench.at[0] + 10 * LEAVE)
    with pytest.raises(StillThere, match="do not go away"):
        POD.create(bench.call(), inputs)
    assert bench.cloud.calls("create") == 0


def test_a_listing_that_fails_stops_the_create_before_anything_is_rented(bench: Bench) -> None:
    bench.cloud.set_faults(list=["error"])
    with pytest.raises(CloudUnknown):
        POD.create(bench.call(), ready(bench))
    assert bench.cloud.calls("create") == 0


@pytest.mark.parametrize("closed", [FENCE, LEASE])
def test_nothing_is_rented_under_a_closed_fence_or_lease(bench: Bench, closed: str) -> None:
    inputs = ready(bench)
    intents.close(bench.world.places.intents, closed, 1.0)
    with pytest.raises(RefusedError, match=f"{closed} was closed"):
        POD.create(bench.call(), inputs)
    assert bench.cloud.calls("create") == 0


def test_without_the_lease_s_folder_the_create_waits_as_if_another_machine_had_just_asked(bench: Bench) -> None:
    inputs = bench.checked(POD, pod_inputs())
    began = bench.at[0]
    POD.create(bench.call(), inputs)
    assert bench.at[0] - began >= bench.cloud.capabilities.post_timeout + bench.cloud.capabilities.settle


def test_an_engine_that_died_stops_the_create_before_the_request(bench: Bench) -> None:
    bench.world.control.orphan()
    with pytest.raises(Interrupted):
        POD.create(bench.call(), ready(bench))
    assert bench.cloud.calls("create") == 0


def test_nothing_is_rented_for_a_command_that_was_killed_meanwhile(bench: Bench) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    inputs = ready(bench)
    for pid, rented in ((ended.pid, False), (os.getpid(), True)):
        bench.world = replace(bench.world, env={"TRAINYARD_CONTROLLER": str(pid)})
        with nullcontext() if rented else pytest.raises(Interrupted, match="the command that asked for it"):
            POD.create(bench.call(), inputs)
        assert bool(bench.cloud.alive()) is rented


def test_an_engine_that_died_keeps_leftovers_alive_for_the_next_one(bench: Bench) -> None:
    inputs = ready(bench)
    add(bench, inputs)
    add(bench, inputs)
    bench.world.control.orphan()
    with pytest.raises(Interrupted):
        POD.create(bench.call(), inputs)
    assert len(bench.cloud.alive()) == 2


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
