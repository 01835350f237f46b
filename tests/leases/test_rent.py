"""Renting: no sequence of faults makes two pods, none is paid beyond its limit, and nothing is rented under a closed lease."""

from __future__ import annotations

import os
import subprocess
from contextlib import nullcontext
from dataclasses import replace

import pytest

from tests.leases.bench import FENCE, KEY, LEASE, LeaseBench, lie_once_from
from trainyard.clock import parse_time
from trainyard.clouds.absence import LEAVE
from trainyard.clouds.marker import PodName
from trainyard.clouds.protocol import Offer, OfferQuery, PodInfo, PodSpec
from trainyard.errors import CloudRefused, CloudUnknown, NoCapacity, RefusedError, StillThere, UnwantedPod
from trainyard.leases import intents, rent
from trainyard.leases.rent import PodRequest
from trainyard.leases.world import Interrupted
from trainyard.remote.keys import host_key


def wanted(
    lease_id: str = LEASE,
    *,
    fence_id: str = FENCE,
    disk_gb: int = 100,
    max_price: float | None = None,
    only_offers: tuple[str, ...] | None = None,
    avoid_offers: tuple[str, ...] = (),
) -> PodRequest:
    """A pod as it may be asked for on the model cloud."""
    name = str(PodName(fence_id, lease_id, "pod", f"{disk_gb:08x}"))
    stop, end = parse_time("2027-01-15T10:00:00Z"), parse_time("2027-01-15T10:30:00Z")
    return PodRequest(
        query=OfferQuery(gpus=("A", "B"), max_price=max_price),
        spec=PodSpec(name, fence_id, lease_id, stop, end, disk_gb=disk_gb, public_key=KEY),
        key=host_key(bytes(32), name),
        only_offers=only_offers,
        avoid_offers=avoid_offers,
    )


def ready(bench: LeaseBench, disk_gb: int = 100, max_price: float | None = None, avoid_offers: tuple[str, ...] = ()) -> PodRequest:
    """The same under a lease that this machine knows."""
    intents.make_folder(bench.world.places.intents, LEASE)
    return wanted(disk_gb=disk_gb, max_price=max_price, avoid_offers=avoid_offers)


def create(bench: LeaseBench, asked: PodRequest) -> tuple[str, Offer | None]:
    info, offer = rent.obtain(bench.world, bench.cloud, asked)
    return info.id, offer


def taken(offer: Offer | None) -> str:
    return offer.id if offer else ""


def record(bench: LeaseBench, asked: PodRequest) -> intents.IntentRecord:
    return intents.settle(bench.world.places.intents / LEASE / asked.spec.name, lambda s: None)


def add(bench: LeaseBench, asked: PodRequest, **more: object) -> str:
    return bench.cloud.add(asked.spec.name, FENCE, LEASE, **more)


def test_the_request_carries_what_watchdog_and_a_second_machine_must_know(bench: LeaseBench) -> None:
    asked = replace(ready(bench), budget=7.0, heartbeat_minutes=30.0, idle_minutes=20.0, stall_minutes=15.0)
    pod_id, _ = create(bench, asked)
    state = bench.cloud.state(pod_id)
    assert state["host_key"] == asked.key.private_pem
    assert state["env"] == {
        "TRAINYARD_HOST_KEY": asked.key.public, "TRAINYARD_PRICE": "1.000000", "TRAINYARD_BUDGET": "7.00",
        "TRAINYARD_HEARTBEAT_MINUTES": "30", "TRAINYARD_IDLE_MINUTES": "20", "TRAINYARD_STALL_MINUTES": "15",
    }  # fmt: skip


def test_the_first_offer_is_rented_with_its_intent_before_and_its_outcome_after(bench: LeaseBench) -> None:
    asked = ready(bench)
    pod_id, offer = create(bench, asked)
    assert bench.cloud.alive() == [pod_id] and taken(offer) == "A-1"
    assert record(bench, asked) == intents.IntentRecord(bench.at[0], True, bench.at[0], (pod_id,))


def test_an_answer_that_tells_no_time_of_creation_was_created_when_the_cloud_answered(
    bench: LeaseBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_at_cloud = bench.cloud.create
    monkeypatch.setattr(bench.cloud, "create", lambda spec, offer: replace(create_at_cloud(spec, offer), created=None))
    info, _ = rent.obtain(bench.world, bench.cloud, ready(bench))
    assert info.created == bench.cloud.now()


def test_no_capacity_moves_on_to_the_next_offer(bench: LeaseBench) -> None:
    bench.cloud.set_faults(**{"create/A-1": ["no-capacity"]})
    _, offer = create(bench, ready(bench))
    assert taken(offer) == "B-1"


def test_a_pod_that_a_refusal_has_made_is_ended_counted_and_told_and_the_next_offer_is_taken(
    bench: LeaseBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_at_cloud, unwanted = bench.cloud.create, list[str]()

    def refuse_once(spec: PodSpec, offer: Offer) -> PodInfo:
        info = create_at_cloud(spec, offer)
        if unwanted:
            return info
        unwanted.append(info.id)
        raise UnwantedPod(f"the bid is too low; {info.id} was made all the same", info.id)

    monkeypatch.setattr(bench.cloud, "create", refuse_once)
    asked = ready(bench)
    pod_id, offer = create(bench, asked)
    assert taken(offer) == "B-1" and bench.cloud.alive() == [pod_id]
    (pod,) = [pod for pod in intents.accepted(bench.world.places.intents, LEASE) if pod.id in unwanted]
    assert pod.ended is not None and pod.price == 1.0


def test_a_refusal_of_the_request_itself_does_not_try_other_offers(bench: LeaseBench) -> None:
    bench.cloud.set_faults(create=["refused"])
    asked = ready(bench)
    with pytest.raises(CloudRefused):
        create(bench, asked)
    assert bench.cloud.calls("create") == 1
    assert record(bench, asked).resolved


def test_when_no_offer_is_left_the_error_names_each(bench: LeaseBench) -> None:
    bench.cloud.set_faults(create=["no-capacity", "no-capacity"])
    with pytest.raises(NoCapacity, match="A-1: A-1 is taken; B-1: B-1 is taken"):
        create(bench, ready(bench))


def test_offers_can_be_chosen_and_avoided(bench: LeaseBench) -> None:
    _, offer = create(bench, ready(bench, avoid_offers=("A-1",)))
    assert taken(offer) == "B-1"
    intents.make_folder(bench.world.places.intents, "2" * 10)
    _, offer = create(bench, wanted("2" * 10, only_offers=("B-1", "gone")))
    assert taken(offer) == "B-1"


def test_a_pod_whose_price_turns_out_too_high_is_ended_before_the_next_offer_is_asked(bench: LeaseBench) -> None:
    bench.cloud.set_faults(dearer=["10"])
    pod_id, offer = create(bench, ready(bench, max_price=4))
    assert (taken(offer), bench.cloud.state(pod_id)["price"]) == ("B-1", 2.0)
    assert bench.cloud.alive() == [pod_id]
    dear, kept = intents.accepted(bench.world.places.intents, LEASE)
    assert dear.price == 10.0 and dear.ended is not None and dear.ended <= kept.at and kept.id == pod_id
    assert any("$10.00/h, allowed are $4.00/h" in text for text in bench.messages)


def test_a_pod_found_after_an_unclear_answer_is_held_to_the_price_as_well(bench: LeaseBench) -> None:
    bench.cloud.set_faults(create=["accepted-error"], dearer=["10"])
    pod_id, offer = create(bench, ready(bench, max_price=4))
    assert bench.cloud.alive() == [pod_id] and taken(offer) == "B-1"


def test_when_every_answer_is_too_dear_nothing_is_left_and_each_is_told(bench: LeaseBench) -> None:
    bench.cloud.set_faults(dearer=["10", "10"])
    with pytest.raises(NoCapacity, match=r"A-1: its pod .* costs \$10\.00/h.*; B-1: its pod .* costs \$20\.00/h"):
        create(bench, ready(bench))
    assert bench.cloud.alive() == []


def test_a_pod_too_dear_that_a_crash_left_is_ended_and_not_adopted(bench: LeaseBench) -> None:
    asked = ready(bench, max_price=4)
    dear = add(bench, asked, price=9.0)
    pod_id, offer = create(bench, asked)
    assert bench.cloud.alive() == [pod_id] and pod_id != dear
    assert taken(offer) == "A-1"


def test_a_pod_too_dear_that_cannot_be_ended_is_told_and_nothing_else_is_rented(bench: LeaseBench) -> None:
    bench.cloud.set_faults(dearer=["10"], terminate="error")
    with pytest.raises(StillThere, match=r"\$10\.00/h"):
        create(bench, ready(bench, max_price=4))
    assert bench.cloud.calls("create") == 1


def test_one_error_before_anything_was_made_gets_one_retry_once_that_is_proved(bench: LeaseBench) -> None:
    bench.cloud.set_faults(create=["error"])
    asked, began = ready(bench), bench.at[0]
    pod_id, offer = create(bench, asked)
    needs = bench.cloud.capabilities
    assert bench.cloud.alive() == [pod_id] and taken(offer) == "A-1"
    assert bench.at[0] - began >= needs.post_timeout + needs.settle, "the first request could still have made one"
    assert bench.cloud.calls("create") == 2


def test_the_retry_finds_a_pod_that_shows_late_and_rents_no_second_one(bench: LeaseBench) -> None:
    bench.cloud.set_faults(create=["error"])
    asked = ready(bench)
    bench.during += [lambda: None] * 14 + [lambda: [add(bench, asked)]]  # type: ignore[list-item]
    with pytest.raises(rent.Ambiguous) as caught:
        create(bench, asked)
    assert bench.cloud.alive() == [caught.value.info.id] and bench.cloud.calls("create") == 1


def test_a_second_unclear_error_never_moves_on_and_leaves_the_outcome_open(bench: LeaseBench) -> None:
    bench.cloud.set_faults(create=["error", "error"])
    asked = ready(bench)
    with pytest.raises(CloudUnknown, match="502"):
        create(bench, asked)
    assert bench.cloud.calls("create") == 2
    assert not record(bench, asked).resolved


@pytest.mark.parametrize("fault", ["accepted-error", "accepted-crash", "error-then-late"])
def test_an_unclear_error_after_the_cloud_accepted_is_a_partial_failure_with_the_id(bench: LeaseBench, fault: str) -> None:
    bench.cloud.set_faults(create=[fault])
    asked = ready(bench)
    with pytest.raises(rent.Ambiguous) as caught:
        create(bench, asked)
    assert [caught.value.info.id] == bench.cloud.alive()
    assert record(bench, asked).ids == (caught.value.info.id,)


def test_a_retry_after_an_unclear_error_waits_until_nothing_can_appear_any_more(bench: LeaseBench) -> None:
    bench.cloud.set_faults(create=["error", "error"])
    asked = ready(bench)
    with pytest.raises(CloudUnknown):
        create(bench, asked)
    started = record(bench, asked).start
    assert started is not None
    lists = bench.cloud.calls("list")
    create(bench, asked)
    again = record(bench, asked).start
    assert again is not None
    assert again >= started + bench.cloud.capabilities.post_timeout + bench.cloud.capabilities.settle
    assert bench.cloud.calls("list") - lists >= bench.cloud.capabilities.listings
    assert len(bench.cloud.alive()) == 1


def test_a_pod_that_appears_late_is_adopted_and_no_second_one_is_rented(bench: LeaseBench) -> None:
    asked = ready(bench)
    path = bench.world.places.intents / LEASE / asked.spec.name
    with intents.hold(path.parent.parent, path.name, 0, lambda s: None) as intent:
        intent.start("A-1", bench.at[0])
    bench.during += [lambda: None] * 3 + [lambda: [add(bench, asked)]]  # type: ignore[list-item]
    pod_id, offer = create(bench, asked)
    assert [pod_id] == bench.cloud.alive()
    assert bench.cloud.calls("create") == 0
    assert offer is None
    assert record(bench, asked).resolved


def test_a_pod_whose_answer_was_recorded_is_adopted_though_listings_do_not_show_it_yet(bench: LeaseBench) -> None:
    """The engine died between the provider's outcome and its own record; the next one comes sooner than the listing."""
    asked = ready(bench)
    pod_id, _ = create(bench, asked)
    bench.cloud.change(pod_id, visible=bench.at[0] + 1000)
    assert create(bench, asked)[0] == pod_id
    found = rent.look_up(bench.world, bench.cloud, asked.spec.name)
    assert found is not None and found.id == pod_id
    assert bench.cloud.calls("create") == 1


def test_one_empty_listing_is_no_proof_where_the_cloud_needs_two(bench: LeaseBench) -> None:
    asked = ready(bench)
    path = bench.world.places.intents / LEASE / asked.spec.name
    with intents.hold(path.parent.parent, path.name, 0, lambda s: None) as intent:
        intent.start("A-1", bench.at[0])
    until = bench.at[0] + bench.cloud.capabilities.post_timeout + bench.cloud.capabilities.settle
    pod_id = add(bench, asked, visible=until)
    lie_once_from(bench, until)
    assert create(bench, asked)[0] == pod_id
    assert bench.cloud.calls("create") == 0


def test_of_two_namesakes_the_oldest_is_kept_and_the_other_ended(bench: LeaseBench) -> None:
    asked = ready(bench)
    young = add(bench, asked, created=bench.at[0] - 5)
    old = add(bench, asked, created=bench.at[0] - 10)
    assert create(bench, asked)[0] == old
    assert bench.cloud.alive() == [old] != [young]


def test_a_pod_of_an_older_spec_of_the_same_lease_is_ended_before_another_is_rented(bench: LeaseBench) -> None:
    asked = ready(bench)
    old = bench.cloud.add(f"ty-{FENCE}-{LEASE}-pod-00000000", FENCE, LEASE)
    bench.cloud.set_faults(leave=3)
    order: list[bool] = []
    bench.during.append(lambda: order.append(bench.cloud.calls("create") == 0))
    pod_id, _ = create(bench, asked)
    assert order == [True]
    assert bench.cloud.alive() == [pod_id] != [old]


def test_a_list_that_misses_the_pod_of_an_older_spec_does_not_make_two(bench: LeaseBench) -> None:
    """Its delete was heeded by nobody and an untrue 404 called it gone; then another spec is created under the same lease."""
    old, _ = create(bench, ready(bench))
    bench.cloud.change(old, visible=bench.at[0] + 10_000)
    new, _ = create(bench, ready(bench, disk_gb=7))
    assert bench.cloud.alive() == [new] and new != old


def test_pods_of_others_are_left_alone(bench: LeaseBench) -> None:
    asked = ready(bench)
    others = [
        bench.cloud.add(asked.spec.name.replace(LEASE, "9" * 10), FENCE, "9" * 10),
        bench.cloud.add(f"ty-{FENCE}-{LEASE}-other-00000000", FENCE, LEASE),
        bench.cloud.add("somebody", None, None),  # type: ignore[arg-type]
    ]
    pod_id, _ = create(bench, asked)
    assert set(bench.cloud.alive()) == {pod_id, *others}


@pytest.mark.parametrize("status", ["terminating", "exited", "error"])
def test_a_dead_or_leaving_namesake_is_not_adopted_but_waited_for(bench: LeaseBench, status: str) -> None:
    asked = ready(bench)
    bench.cloud.set_faults(leave=4)
    dead = add(bench, asked, status=status, leaves=bench.at[0] + 4)
    pod_id, _ = create(bench, asked)
    assert pod_id != dead
    assert bench.cloud.alive() == [pod_id]


def test_a_namesake_that_never_leaves_is_an_error_and_nothing_is_rented(bench: LeaseBench) -> None:
    asked = ready(bench)
    add(bench, asked, status="terminating", leaves=bench.at[0] + 10 * LEAVE)
    with pytest.raises(StillThere, match="do not go away"):
        create(bench, asked)
    assert bench.cloud.calls("create") == 0


def test_a_listing_that_fails_stops_the_create_before_anything_is_rented(bench: LeaseBench) -> None:
    bench.cloud.set_faults(list=["error"])
    with pytest.raises(CloudUnknown):
        create(bench, ready(bench))
    assert bench.cloud.calls("create") == 0


@pytest.mark.parametrize("closed", [FENCE, LEASE])
def test_nothing_is_rented_under_a_closed_fence_or_lease(bench: LeaseBench, closed: str) -> None:
    asked = ready(bench)
    intents.close(bench.world.places.intents, closed, 1.0)
    with pytest.raises(RefusedError, match=f"{closed} was closed"):
        create(bench, asked)
    assert bench.cloud.calls("create") == 0


def test_without_the_lease_s_folder_the_create_waits_as_if_another_machine_had_just_asked(bench: LeaseBench) -> None:
    asked = wanted()
    began = bench.at[0]
    create(bench, asked)
    assert bench.at[0] - began >= bench.cloud.capabilities.post_timeout + bench.cloud.capabilities.settle


def test_an_engine_that_died_stops_the_create_before_the_request(bench: LeaseBench) -> None:
    bench.world.control.orphan()
    with pytest.raises(Interrupted):
        create(bench, ready(bench))
    assert bench.cloud.calls("create") == 0


def test_nothing_is_rented_for_a_command_that_was_killed_meanwhile(bench: LeaseBench) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    asked = ready(bench)
    for pid, rented in ((ended.pid, False), (os.getpid(), True)):
        bench.world = replace(bench.world, env={"TRAINYARD_CONTROLLER": str(pid)})
        with nullcontext() if rented else pytest.raises(Interrupted, match="the command that asked for it"):
            create(bench, asked)
        assert bool(bench.cloud.alive()) is rented


def test_an_engine_that_died_keeps_leftovers_alive_for_the_next_one(bench: LeaseBench) -> None:
    asked = ready(bench)
    add(bench, asked)
    add(bench, asked)
    bench.world.control.orphan()
    with pytest.raises(Interrupted):
        create(bench, asked)
    assert len(bench.cloud.alive()) == 2
