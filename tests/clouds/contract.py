"""What every cloud must keep, said once: each case is a function of an account at the cloud's emulator.

A cloud comes in by its row in the table (settings/clouds.py) with an ``emulator``. What it cannot keep stands in
``CANNOT``, with what stands in for it; such a case must fail, so that no excuse outlives its reason. The emulator's own
ledger judges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.clouds.account import Account, make_spec
from trainyard.clock import format_time
from trainyard.clouds.marker import parse_name
from trainyard.clouds.protocol import OfferQuery
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError
from trainyard.runs.records.parts import PaidPod, RunPod
from trainyard.runs.records.pods import note_alive, note_deleted, note_ended
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.summary import cost
from trainyard.settings.clouds import entries

_NO_CODES = "io.net documents no such codes: stock is asked for just before a create, and any other no is settled by the list"
_NO_CREATED = "its name tells when its lease ends; when it was made stands in the intent and in the state"
_FINISHED = "what has finished is on no list, and costs nothing; a get tells how it ended"
_QUEUED = "no stock is told and no code for its lack: a job waits in a queue, and the boot's own deadline ends it"
_AGAIN = "the SDK sends a create again with its idempotency key; the name is unique, and the sandbox is found by its tags"
_STOPPED = "what the disk of a stopped pod costs stands in no book of the emulator's; the cloud bills it, and audit shows it"
CANNOT: Mapping[str, Mapping[str, str]] = {
    "ionet": {"no_capacity_a_refusal_and_not_knowing_are_told_apart": _NO_CODES},
    "ionet-vm": {"no_capacity_a_refusal_and_not_knowing_are_told_apart": _NO_CODES},
    "jarvislabs": {"a_list_tells_when_a_pod_was_made": _NO_CREATED},
    **{name: {"what_is_shown_as_costing_money_is_what_is_paid": _STOPPED} for name in ("runpod", "vast", "prime")},
    "modal": {
        "a_stopped_pod_is_still_listed_without_an_address": _FINISHED,
        "a_status_that_nobody_knew_is_unknown_and_breaks_nothing": "a list has no status: it is of what has not finished",
        "no_capacity_a_refusal_and_not_knowing_are_told_apart": _AGAIN,
        "a_create_whose_answer_was_lost_is_found_by_its_name": _AGAIN,
        "what_is_sold_out_is_not_offered_and_nothing_is_above_the_price_asked_for": "Modal tells no stock: a create is refused or waits",
        "the_clouds_clock_counts": "its answers carry no time; its deadline is told in seconds, and counted by Modal",
    },
    "replicate": {
        "a_stopped_pod_is_still_listed_without_an_address": _FINISHED,
        "no_capacity_a_refusal_and_not_knowing_are_told_apart": _QUEUED,
        "what_is_sold_out_is_not_offered_and_nothing_is_above_the_price_asked_for": _QUEUED,
    },
}
"""Cloud -> case -> what stands in for the promise."""


# --- what is shown -------------------------------------------------------------------------------------------------------


def a_list_alone_tells_whose_a_pod_is_and_when_it_ends(at: Account) -> None:
    spec = make_spec(at.cloud)
    pod_id = at.rent(spec).id
    [pod] = at.open().list()
    assert (pod.id, pod.name) == (pod_id, spec.name) and parse_name(pod.name) is not None
    assert (pod.fence_id, pod.lease_id) == (spec.fence_id, spec.lease_id)
    assert (pod.stop, pod.end, pod.end_unreadable) == (spec.stop, spec.end, False)


def what_a_create_returns_a_list_and_a_get_say_again(at: Account) -> None:
    created = at.rent()
    listed, alone = at.cloud.list()[0], at.cloud.get(created.id)
    assert alone is not None
    for pod in (created, listed, alone):
        assert (pod.id, pod.name, pod.lease_id) == (created.id, created.name, created.lease_id)
        assert pod.status in ("accepted", "starting", "running")
    assert listed.price_per_hour == alone.price_per_hour == pytest.approx(at.offer().price_per_hour)


def a_list_tells_when_a_pod_was_made(at: Account) -> None:
    at.rent()
    [listed] = at.cloud.list()
    assert listed.created is not None and abs(listed.created.timestamp() - at.now()) < 60


def a_pod_of_others_is_listed_as_theirs(at: Account) -> None:
    pod_id = at.rent_for_others()
    [pod] = at.cloud.list()
    assert pod.id == pod_id and not pod.fence_id and not pod.lease_id and not pod.end_unreadable


def two_creates_of_one_name_are_two_pods_and_both_are_listed(at: Account) -> None:
    spec = make_spec(at.cloud)
    ids = {at.rent(spec).id, at.rent(spec).id}
    assert ids == at.alive() == {pod.id for pod in at.cloud.list()}


def a_list_has_all_pages(at: Account) -> None:
    ids = {at.rent().id for _ in range(5)}
    at.lie("short-pages")
    assert {pod.id for pod in at.cloud.list()} == ids


def a_stopped_pod_is_still_listed_without_an_address(at: Account) -> None:
    pod_id = at.rent().id
    at.run(pod_id, 40022)
    at.emulator.fleet.act(pod_id, "stop")
    [pod] = at.cloud.list()
    assert (pod.id, pod.status, pod.ssh) == (pod_id, "exited", None)


def a_running_pod_tells_where_its_ssh_server_answers(at: Account) -> None:
    pod_id = at.rent().id
    at.run(pod_id, 40022)
    pod = at.cloud.get(pod_id)
    assert pod is not None and pod.status == "running"
    assert (pod.ssh is not None and pod.ssh.port == 40022) is at.cloud.capabilities.ssh


def a_status_that_nobody_knew_is_unknown_and_breaks_nothing(at: Account) -> None:
    at.rent()
    at.lie("list-unknown-status")
    [pod] = at.cloud.list()
    assert (pod.status, pod.raw_status) == ("unknown", "MIGRATING") and pod.lease_id


def fields_that_come_and_go_do_not_break_a_list(at: Account) -> None:
    name = at.rent().name
    for fault in ("list-unknown-fields", "list-null-fields"):
        at.lie(fault, times=1)
        assert [pod.name for pod in at.cloud.list()] == [name]


def what_is_listed_twice_counts_once(at: Account) -> None:
    at.rent()
    at.lie("list-twice")
    assert len(at.cloud.list()) == 1


def a_list_is_complete_or_an_error(at: Account) -> None:
    at.rent()
    for fault in ("list-500", "list-hangs", "list-cut", "list-page", "list-without-ids", "list-null", "everything-500"):
        at.lie(fault)
        with pytest.raises(CloudError):
            at.open().list()
        at.emulator.faults.off()
    assert len(at.cloud.list()) == 1, "and when it is over, all is as it was"


def a_get_is_none_only_on_the_clouds_own_word(at: Account) -> None:
    pod_id = at.rent().id
    for fault in ("get-500", "get-404-page", "everything-500"):
        at.lie(fault, "list-500")
        with pytest.raises(CloudUnknown):
            at.open().get(pod_id)
        at.emulator.faults.off()
    at.emulator.fleet.delete(pod_id, "by a test")
    left = at.cloud.get(pod_id)
    assert left is None or left.status == "terminating"
    assert at.cloud.get(at.emulator.cloud.new_id()) is None


# --- a create ------------------------------------------------------------------------------------------------------------


def a_create_is_definite_only_when_nothing_was_made(at: Account) -> None:
    for fault in at.emulator.cloud.faults:
        if fault.on == "create" and fault.kind == "reply" and "delay" not in fault.does and not fault.name.startswith("lie-"):
            at.lie(fault.name, times=1)
            before, offer, client = len(at.creates()), at.offer(), at.open()
            try:
                client.create(make_spec(client), offer)
            except CloudError as error:
                assert not at.alive() or isinstance(error, CloudUnknown), f"{fault.name}: a pod was made, and the client says: {error}"
            else:
                assert at.alive(), f"{fault.name}: nothing was made, and the client says it was"
            assert len(at.alive()) <= 1, f"{fault.name}: made twice"
            most = 2 if fault.does.get("status") == 429 else 1
            assert len(at.creates()) - before <= most, f"{fault.name}: sent {len(at.creates()) - before} times"
            at.clear()


def no_capacity_a_refusal_and_not_knowing_are_told_apart(at: Account) -> None:
    for fault, error in (
        ("create-no-capacity", NoCapacity),
        ("create-no-balance", CloudRefused),
        ("create-unauthorized", CloudRefused),
        ("create-500-after", CloudUnknown),
        ("create-reset-after", CloudUnknown),
    ):
        at.lie(fault, times=1)
        with pytest.raises(CloudError) as raised:
            at.rent()
        assert type(raised.value) is error, f"{fault}: {raised.value!r}"
        at.clear()


def a_create_whose_answer_was_lost_is_found_by_its_name(at: Account) -> None:
    for fault in ("create-reset-after", "create-hangs-after", "create-502-page-after"):
        spec = make_spec(at.cloud)
        at.lie(fault, times=1)
        with pytest.raises(CloudUnknown):
            at.rent(spec)
        [pod] = [pod for pod in at.open().list() if pod.name == spec.name]
        assert (pod.lease_id, pod.end) == (spec.lease_id, spec.end)
        at.clear()


def the_accounts_key_is_in_no_pod_and_cannot_slip_into_one(at: Account) -> None:
    at.rent()
    [record] = at.emulator.fleet.all()
    inside = at.emulator.cloud.container(at.emulator.fleet.machines, record)
    assert at.emulator.key not in json.dumps([record["request"], dict(inside.env), inside.boot, inside.job])
    at.clear()
    with pytest.raises((CloudRefused, UserError)) as raised:
        at.rent(make_spec(at.cloud, env={"HARMLESS": at.emulator.key}))
    assert at.emulator.key not in str(raised.value) and not at.alive()


def what_is_sold_out_is_not_offered_and_nothing_is_above_the_price_asked_for(at: Account) -> None:
    offer = at.offer()
    query = OfferQuery(gpus=(offer.gpu or "",), max_price=offer.price_per_hour)
    offers = at.cloud.offers(query)
    assert offers and all(found.price_per_hour <= offer.price_per_hour + 1e-9 and found.cloud == at.cloud.name for found in offers)
    assert at.cloud.offers(replace(query, max_price=0.0001)) == []
    at.lie("sold-out")
    assert at.cloud.offers(query) == []
    with pytest.raises(NoCapacity):
        at.rent()


# --- the end -------------------------------------------------------------------------------------------------------------


def an_ended_pod_is_gone_and_ending_it_again_is_success(at: Account) -> None:
    pod_id, other = at.rent().id, at.rent().id
    at.cloud.terminate(pod_id)
    assert at.alive() == {other} == {pod.id for pod in at.cloud.list() if pod.status != "terminating"}
    left = at.cloud.get(pod_id)
    assert left is None or left.status == "terminating"
    at.cloud.terminate(pod_id)


def an_ended_pod_is_not_paid_any_more(at: Account) -> None:
    pod_id = at.rent().id
    at.cloud.terminate(pod_id)
    assert [paid.end is not None for paid in at.emulator.ledger() if paid.pod == pod_id] == [True]


def a_terminate_gets_through_what_passes(at: Account) -> None:
    for fault in (
        "delete-500",
        "delete-500-after",
        "delete-reset-before",
        "delete-rate-limited",
        "delete-hangs-before",
        "delete-hangs-after",
    ):
        pod_id = at.rent().id
        at.lie(fault, times=2)
        at.open().terminate(pod_id)
        assert not at.alive(), fault
        at.clear()


def a_pod_is_said_to_be_gone_only_when_it_is(at: Account) -> None:
    for faults in (
        ("delete-ignored", "list-empty"),
        ("delete-ignored", "get-404-untrue"),
        ("delete-404-page", "list-misses-one"),
        ("delete-404-untrue", "list-null"),
        ("delete-500", "get-404-page"),
        ("everything-500",),
    ):
        pod_id = at.rent().id
        at.lie(*faults)
        proof = at.prove(pod_id, patience=20.0)
        assert not proof.proved or not at.alive(), f"{faults}: {proof}"
        at.clear()


def lies_that_end_are_outlived(at: Account) -> None:
    for faults in (("delete-500", "list-empty"), ("delete-404-untrue", "list-500"), ("delete-ignored",), ("get-404-untrue",)):
        pod_id = at.rent().id
        at.lie(*faults, times=1)
        proof = at.prove(pod_id, patience=300.0)
        assert proof.proved and not at.alive(), f"{faults}: {proof}"
        at.clear()


def an_ended_pod_that_is_listed_for_a_while_is_no_error(at: Account) -> None:
    pod_id = at.rent().id
    at.emulator.faults.on("deleted-still-listed", lag=1000.0)
    at.cloud.terminate(pod_id)
    at.cloud.list()
    at.emulator.faults.off()
    assert at.prove(pod_id).proved


# --- the account ---------------------------------------------------------------------------------------------------------


def a_wrong_key_is_refused_on_every_call_and_never_an_empty_list(at: Account) -> None:
    pod_id, row = at.rent().id, entries()[at.cloud.name]
    stranger = at.open(**dict.fromkeys(row.keys, "wrong"))
    for call in (stranger.list, stranger.costs, lambda: stranger.get(pod_id), lambda: stranger.terminate(pod_id)):
        with pytest.raises(CloudRefused):
            call()
    with pytest.raises(CloudRefused):
        stranger.create(make_spec(stranger), at.offer())
    assert at.alive() == {pod_id}


def everything_that_costs_money_is_counted(at: Account) -> None:
    pod = at.rent()
    at.run(pod.id, 40022)
    [item] = [item for item in at.cloud.costs() if item.kind == "pod"]
    assert (item.id, item.ours) == (pod.id, True) and item.per_hour == pytest.approx(at.offer().price_per_hour)


def what_an_emulator_answers_is_marked_as_simulated(at: Account) -> None:
    assert at.cloud.simulated and at.cloud.address
    assert at.emulator.key not in repr(at.cloud)


def the_clouds_clock_counts(at: Account) -> None:
    at.lie("clock-ahead")
    at.cloud.list()
    assert abs(at.cloud.now().timestamp() - at.now() - 3600) < 10


def what_is_paid_past_a_lease_is_what_a_run_has_cost(at: Account) -> None:
    pod = at.rent()
    told = RunPod(pod_id=pod.id, end=format_time(at.now() + 3600), price_per_hour=pod.price_per_hour)
    run = RunRecord(
        user="ann", label="a", attempt=1, environment=at.cloud.name, recipe="command", values={}, bundle_sha256="0", hours=1.0,
        created=at.now(), cloud=at.cloud.name, pod=told, pods=[PaidPod(pod.id, at.offer().price_per_hour, at.now())],
        disks_per_hour=at.cloud.disks_per_hour(make_spec(at.cloud).disk_gb, gpu=True, volume=False),
    )  # fmt: skip
    at.sleep(3 * 3600)
    if not at.cloud.capabilities.self_terminate:
        assert cost(run, at.now()) == pytest.approx(_books(at, pod.id), rel=0.01), "nobody has looked, and nobody has ended it"
    note_alive(run, at.cloud, at.now())
    at.cloud.terminate(pod.id)  # as the engine does, before the proof
    note_deleted(run, at.now(), [])
    at.sleep(600)
    note_ended(run, at.prove(pod.id), run.pod.end)
    assert cost(run, at.now()) == pytest.approx(_books(at, pod.id), rel=0.01)


def what_is_shown_as_costing_money_is_what_is_paid(at: Account) -> None:
    pod_id = at.rent().id
    at.run(pod_id, 40022)
    at.emulator.fleet.act(pod_id, "stop")
    at.sleep(600)
    before = _books(at, pod_id)
    at.sleep(3600)
    shown = sum(item.per_hour or 0.0 for item in at.cloud.costs() if item.id == pod_id)
    assert shown == pytest.approx(_books(at, pod_id) - before, rel=0.01)


def _books(at: Account, pod_id: str) -> float:
    """Return the dollars that the emulator has been paid for a pod."""
    return sum(paid.cost(at.now()) for paid in at.emulator.fleet.ledger.paid() if paid.pod == pod_id)


def marks_change_where_the_cloud_can_and_are_refused_where_not(at: Account) -> None:
    pod = at.rent()
    assert pod.stop is not None and pod.end is not None
    later = (pod.stop + timedelta(hours=7), pod.end + timedelta(hours=7))
    if at.cloud.capabilities.change_markers:
        at.cloud.change_markers(pod.id, *later)
        at.cloud.change_markers(pod.id, *later)  # said twice, done once
        assert [(pod.stop, pod.end) for pod in at.open().list()] == [later]
    else:
        with pytest.raises(CloudRefused):
            at.cloud.change_markers(pod.id, *later)


CASES: tuple[Callable[[Account], None], ...] = (
    a_list_alone_tells_whose_a_pod_is_and_when_it_ends,
    what_a_create_returns_a_list_and_a_get_say_again,
    a_list_tells_when_a_pod_was_made,
    a_pod_of_others_is_listed_as_theirs,
    two_creates_of_one_name_are_two_pods_and_both_are_listed,
    a_list_has_all_pages,
    a_stopped_pod_is_still_listed_without_an_address,
    a_running_pod_tells_where_its_ssh_server_answers,
    a_status_that_nobody_knew_is_unknown_and_breaks_nothing,
    fields_that_come_and_go_do_not_break_a_list,
    what_is_listed_twice_counts_once,
    a_list_is_complete_or_an_error,
    a_get_is_none_only_on_the_clouds_own_word,
    a_create_is_definite_only_when_nothing_was_made,
    no_capacity_a_refusal_and_not_knowing_are_told_apart,
    a_create_whose_answer_was_lost_is_found_by_its_name,
    the_accounts_key_is_in_no_pod_and_cannot_slip_into_one,
    what_is_sold_out_is_not_offered_and_nothing_is_above_the_price_asked_for,
    an_ended_pod_is_gone_and_ending_it_again_is_success,
    an_ended_pod_is_not_paid_any_more,
    a_terminate_gets_through_what_passes,
    a_pod_is_said_to_be_gone_only_when_it_is,
    lies_that_end_are_outlived,
    an_ended_pod_that_is_listed_for_a_while_is_no_error,
    a_wrong_key_is_refused_on_every_call_and_never_an_empty_list,
    everything_that_costs_money_is_counted,
    what_an_emulator_answers_is_marked_as_simulated,
    the_clouds_clock_counts,
    what_is_paid_past_a_lease_is_what_a_run_has_cost,
    what_is_shown_as_costing_money_is_what_is_paid,
    marks_change_where_the_cloud_can_and_are_refused_where_not,
)
"""All of it."""
WITHOUT_EMULATOR: tuple[Callable[[Account], None], ...] = (
    a_list_alone_tells_whose_a_pod_is_and_when_it_ends,
    what_a_create_returns_a_list_and_a_get_say_again,
    a_list_tells_when_a_pod_was_made,
    a_pod_of_others_is_listed_as_theirs,
    an_ended_pod_is_gone_and_ending_it_again_is_success,
    everything_that_costs_money_is_counted,
    marks_change_where_the_cloud_can_and_are_refused_where_not,
)
"""What holds of the cloud on this machine, too."""
