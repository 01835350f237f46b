"""Lease: deadlines, expiry, and a deletion after which no pod of the lease can be there, now or later."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.leases.bench import FENCE, lie_once_from
from tests.leases.test_intents import HOLDER, kill
from tests.provider.conftest import Bench, pod_inputs
from trainyard.clouds.marker import is_id
from trainyard.errors import CloudUnknown, RefusedError, StillThere, StoreError
from trainyard.leases import fence, intents
from trainyard.leases.world import Interrupted
from trainyard.provider.handler import CheckFailed, diff
from trainyard.provider.lease import LEASE as HANDLER
from trainyard.provider.pod import POD
from trainyard.provider.values import UNKNOWN, Properties, Tree

WAIT = 50.0
"""POST timeout plus settle of the model cloud."""


def lease(bench: Bench, **more: Tree) -> tuple[str, Properties, Properties]:
    given: Properties = {"cloud": "model", "hours": 2, "fence_id": FENCE, **more}
    inputs = bench.checked(HANDLER, {key: value for key, value in given.items() if value is not None})
    lease_id, outputs = HANDLER.create(bench.call(kind="Lease"), inputs)
    return lease_id, outputs, inputs


def the_fence(bench: Bench, **more: Tree) -> tuple[str, Properties, Properties]:
    return lease(bench, hours=None, fence_id=None, **more)


def delete(bench: Bench, made: tuple[str, Properties, Properties]) -> None:
    HANDLER.delete(bench.call(kind="Lease"), *made)


def pod(bench: Bench, lease_id: str, fence_id: str = FENCE) -> tuple[str, Properties]:
    inputs = bench.checked(POD, pod_inputs(lease_id=lease_id, fence_id=fence_id))
    return POD.create(bench.call(), inputs)[0], inputs


# Deadlines


def test_hours_become_stop_and_end_once_counted_by_the_cloud_s_clock(bench: Bench) -> None:
    bench.cloud.clock = lambda: bench.at[0] + 3600
    lease_id, outputs, _ = lease(bench, rescue_minutes=15, budget=9)
    assert is_id(lease_id)
    assert outputs == {
        "lease_id": lease_id,
        "fence_id": FENCE,
        "start": "2027-01-15T09:00:00Z",
        "stop": "2027-01-15T11:00:00Z",
        "end": "2027-01-15T11:15:00Z",
        "budget": 9.0,
        "closed": False,
    }
    assert intents.has_folder(bench.world.places.intents, lease_id)


def test_a_fence_has_no_deadline_and_is_its_own_fence(bench: Bench) -> None:
    lease_id, outputs, _ = the_fence(bench)
    assert (outputs["fence_id"], outputs["stop"], outputs["end"]) == (lease_id, None, None)


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ({"hours": 0}, "more than 0"),
        ({"hours": -1}, "more than 0"),
        ({"hours": 744}, "the longest lease is 31 days"),
        ({"rescue_minutes": -1}, "negative"),
        ({"budget": 0}, "more than 0"),
        ({"fence_id": "../x"}, "no fence id"),
        ({"hours": None}, "needs 'hours'"),
        ({"hours": "2"}, "must be a number"),
    ],
)
def test_a_lease_that_makes_no_sense_is_refused(bench: Bench, inputs: dict[str, Tree], what: str) -> None:
    with pytest.raises(CheckFailed, match=what):
        lease(bench, **inputs)


@pytest.mark.parametrize(("value", "refused"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_skipped_checkpoints_are_refused(bench: Bench, value: str, refused: bool) -> None:
    bench.world.env["PULUMI_SKIP_CHECKPOINTS"] = value  # type: ignore[index]
    if refused:
        with pytest.raises(RefusedError, match="PULUMI_SKIP_CHECKPOINTS"):
            lease(bench)
    else:
        lease(bench)


def test_changed_hours_move_stop_and_end_from_the_lease_s_start(bench: Bench) -> None:
    lease_id, outputs, inputs = lease(bench)
    bench.at[0] += 600
    news = {**inputs, "hours": 3}
    found = diff(HANDLER, bench.call(kind="Lease"), outputs, inputs, news)
    assert dict(found.changes) == {"hours": "update"}
    moved = HANDLER.update(bench.call(kind="Lease"), lease_id, outputs, inputs, news)
    assert (moved["stop"], moved["end"]) == ("2027-01-15T11:00:00Z", "2027-01-15T11:30:00Z")


def test_changed_hours_are_refused_before_anything_changes_where_the_marker_cannot_follow(bench: Bench) -> None:
    from dataclasses import replace

    _, outputs, inputs = lease(bench)
    bench.cloud.capabilities = replace(bench.cloud.capabilities, change_markers=False)
    with pytest.raises(RefusedError, match="cannot change the deadline"):
        diff(HANDLER, bench.call(kind="Lease"), outputs, inputs, {**inputs, "hours": 3})


def test_hours_that_would_end_in_the_past_are_refused(bench: Bench) -> None:
    lease_id, outputs, inputs = lease(bench)
    bench.at[0] += 7200
    with pytest.raises(RefusedError, match="would have ended"):
        HANDLER.update(bench.call(kind="Lease"), lease_id, outputs, inputs, {**inputs, "hours": 1})


def test_an_unchanged_lease_is_the_same(bench: Bench) -> None:
    _, outputs, inputs = lease(bench)
    assert not diff(HANDLER, bench.call(kind="Lease"), outputs, inputs, dict(inputs)).changes


@pytest.mark.parametrize("how", ["expired", "closed"])
def test_a_lease_that_is_over_is_replaced_in_an_environment_and_an_error_in_a_run(bench: Bench, how: str) -> None:
    declared, of_run = lease(bench, renew=True), lease(bench)
    if how == "expired":
        bench.at[0] += 3 * 3600
    else:
        for made in (declared, of_run):
            intents.close(bench.world.places.intents, made[0], 1.0)
    found = diff(HANDLER, bench.call(kind="Lease"), declared[1], declared[2], dict(declared[2]))
    assert [kind for kind in found.changes.values()] == ["update-replace"]
    assert found.delete_first
    with pytest.raises(RefusedError, match=r"ended at|was closed"):
        diff(HANDLER, bench.call(kind="Lease"), of_run[1], of_run[2], dict(of_run[2]))


def test_a_closed_fence_still_in_state_is_replaced(bench: Bench) -> None:
    lease_id, outputs, inputs = the_fence(bench)
    assert not diff(HANDLER, bench.call(kind="Lease"), outputs, inputs, dict(inputs)).changes
    intents.close(bench.world.places.intents, lease_id, 1.0)
    assert diff(HANDLER, bench.call(kind="Lease"), outputs, inputs, dict(inputs)).delete_first


def test_a_fence_closed_by_another_machine_is_seen_at_refresh(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lease_id, outputs, inputs = the_fence(bench, bucket="b", store="s3")
    monkeypatch.setattr(fence, "is_closed_in_bucket", lambda world, id, store, bucket: (id, store, bucket) == (lease_id, "s3", "b"))
    found = HANDLER.read(bench.call(kind="Lease"), lease_id, outputs, inputs)
    assert found.properties["closed"] is True
    assert diff(HANDLER, bench.call(kind="Lease"), found.properties, inputs, dict(inputs)).delete_first


def test_an_unknown_fence_is_no_error_at_preview(bench: Bench) -> None:
    assert bench.checked(HANDLER, {"cloud": "model", "hours": 2, "fence_id": UNKNOWN})["fence_id"] is UNKNOWN


# Deletion


def test_a_lease_under_which_nothing_was_asked_goes_without_waiting(bench: Bench) -> None:
    made = lease(bench)
    delete(bench, made)
    assert sum(bench.slept) < 10
    assert not intents.has_folder(bench.world.places.intents, made[0])
    assert intents.is_closed(bench.world.places.intents, made[0])


def test_deletion_ends_the_pod_and_those_that_only_carry_the_id(bench: Bench) -> None:
    made = lease(bench)
    pod(bench, made[0])
    bench.cloud.add("renamed by somebody", None, made[0])  # type: ignore[arg-type]
    other = bench.cloud.add(f"ty-{FENCE}-{'7' * 10}-pod-00000000", FENCE, "7" * 10)
    delete(bench, made)
    assert bench.cloud.alive() == [other]


def test_a_request_with_unknown_outcome_is_waited_out_and_its_pod_ended(bench: Bench) -> None:
    made = lease(bench)
    bench.cloud.set_faults(create=["error", "error"])
    with pytest.raises(CloudUnknown):
        pod(bench, made[0])
    asked = bench.at[0] - bench.cloud.capabilities.settle  # the create itself watched for the settle time
    name = next(path.name for path in intents.of_lease(bench.world.places.intents, made[0]))
    bench.during += [lambda: None, lambda: [bench.cloud.add(name, FENCE, made[0])]]  # type: ignore[list-item]
    delete(bench, made)
    assert bench.cloud.alive() == []
    assert bench.at[0] >= asked + WAIT


def test_a_pod_that_only_its_intent_names_is_ended_by_id(bench: Bench) -> None:
    made = lease(bench)
    pod_id, _ = pod(bench, made[0])
    bench.cloud.change(pod_id, visible=bench.at[0] + 10_000)
    delete(bench, made)
    assert bench.cloud.alive() == []


def test_an_empty_listing_is_not_believed_before_what_was_just_created_must_show(bench: Bench) -> None:
    made = lease(bench)
    pod_id, _ = pod(bench, made[0])
    # A twin that the cloud made of the same request shows late.
    state = bench.cloud.state(pod_id)
    bench.cloud.add(state["name"], FENCE, made[0], visible=bench.at[0] + 19)
    delete(bench, made)
    assert bench.cloud.alive() == []


def test_without_the_folder_of_intents_the_wait_counts_from_now(bench: Bench) -> None:
    made = lease(bench)
    pod_id, _ = pod(bench, made[0])
    bench.cloud.change(pod_id, visible=bench.at[0] + WAIT - 1)
    intents.remove_folder(bench.world.places.intents, made[0])
    began = bench.at[0]
    delete(bench, made)
    assert bench.cloud.alive() == []
    assert bench.at[0] - began >= WAIT


def test_one_empty_listing_is_no_proof_where_the_cloud_needs_two(bench: Bench) -> None:
    made = lease(bench)
    bench.cloud.add("the cloud does not list it at first", FENCE, made[0])
    lie_once_from(bench, bench.at[0])
    delete(bench, made)
    assert bench.cloud.alive() == []


def test_a_clock_set_back_does_not_lengthen_the_wait(bench: Bench) -> None:
    made = lease(bench)
    bench.cloud.set_faults(create=["error", "error"])
    with pytest.raises(CloudUnknown):
        pod(bench, made[0])
    bench.at[0] -= 86400
    began = bench.at[0]
    delete(bench, made)
    assert bench.at[0] - began <= WAIT + 10


def test_deletion_waits_for_a_living_creator_in_another_process(bench: Bench) -> None:
    made = lease(bench)
    name = f"ty-{FENCE}-{made[0]}-pod-0123abcd"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(bench.world.places.intents), name, "start=1800000000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout and process.stdout.readline() == b"held\n"
    polls: list[int] = []

    def accept_and_die() -> None:
        polls.append(len(bench.messages))
        bench.cloud.add(name, FENCE, made[0])
        kill(process)

    bench.during += [lambda: None, accept_and_die]
    delete(bench, made)
    assert any("waiting for the process that creates" in text for text in bench.messages)
    assert polls
    assert bench.cloud.alive() == []


def test_terminate_that_fails_for_a_while_is_repeated_until_it_works(bench: Bench) -> None:
    made = lease(bench)
    pod(bench, made[0])
    bench.cloud.set_faults(terminate=["error"] * 5)
    delete(bench, made)
    assert bench.cloud.alive() == []


def test_a_stubborn_pod_does_not_keep_the_others_alive_and_is_named_with_its_price(bench: Bench) -> None:
    made = lease(bench)
    stubborn, _ = pod(bench, made[0])
    bench.cloud.add(f"ty-{FENCE}-{made[0]}-other-00000000", FENCE, made[0])
    real = bench.cloud.terminate
    bench.cloud.terminate = lambda pod_id: None if pod_id == stubborn else real(pod_id)  # type: ignore[method-assign]
    with pytest.raises(StillThere, match=rf"{stubborn} \(\$1\.00/h"):
        delete(bench, made)
    assert bench.cloud.alive() == [stubborn]
    assert intents.has_folder(bench.world.places.intents, made[0])


def test_a_listing_that_fails_keeps_the_lease(bench: Bench) -> None:
    made = lease(bench)
    pod(bench, made[0])
    bench.cloud.set_faults(list="error")
    with pytest.raises(StillThere, match="cannot be read: 503 on list"):
        delete(bench, made)
    assert intents.has_folder(bench.world.places.intents, made[0])


def test_the_pod_is_not_created_any_more_once_its_lease_was_deleted(bench: Bench) -> None:
    made = lease(bench)
    delete(bench, made)
    with pytest.raises(RefusedError):
        pod(bench, made[0])
    assert bench.cloud.calls("create") == 0


def test_an_orphaned_plugin_ends_nothing(bench: Bench) -> None:
    made = lease(bench)
    pod_id, _ = pod(bench, made[0])
    bench.world.control.orphan()
    with pytest.raises(Interrupted):
        delete(bench, made)
    assert bench.cloud.alive() == [pod_id]


# The environment's lease


def test_the_fence_sweeps_the_pods_of_every_lease_under_it(bench: Bench) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made[0])
    pod(bench, of_run[0], made[0])
    bench.cloud.add("a pod of a run on another machine", made[0], "6" * 10)
    other = bench.cloud.add("another environment", "8" * 10, "6" * 10)
    delete(bench, made)
    assert bench.cloud.alive() == [other]
    assert intents.has_folder(bench.world.places.intents, of_run[0]), "only a lease removes its own intents"


def test_the_fence_is_closed_before_it_looks_so_that_a_waiting_create_refuses(bench: Bench) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made[0])
    seen: list[bool] = []
    real = bench.cloud.list

    def listing() -> object:
        seen.append(intents.is_closed(bench.world.places.intents, made[0]))
        return real()

    bench.cloud.list = listing  # type: ignore[method-assign,assignment]
    delete(bench, made)
    assert seen and all(seen)
    with pytest.raises(RefusedError, match="environment"):
        pod(bench, of_run[0], made[0])


def test_the_fence_waits_out_requests_of_runs_with_unknown_outcome(bench: Bench) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made[0])
    bench.cloud.set_faults(create=["error", "error"])
    with pytest.raises(CloudUnknown):
        pod(bench, of_run[0], made[0])
    asked = bench.at[0] - bench.cloud.capabilities.settle
    delete(bench, made)
    assert bench.at[0] >= asked + WAIT


def test_a_store_that_is_down_does_not_keep_pods_alive_but_the_lease_stays_for_a_retry(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = the_fence(bench, bucket="b", store="s3")
    of_run = lease(bench, fence_id=made[0])
    pod(bench, of_run[0], made[0])

    def down(*args: object) -> None:
        raise StoreError("the store does not answer")

    monkeypatch.setattr(fence, "close_in_bucket", down)
    with pytest.raises(StoreError):
        delete(bench, made)
    assert bench.cloud.alive() == []
    monkeypatch.setattr(fence, "close_in_bucket", lambda *args: None)
    delete(bench, made)


def test_a_lease_of_a_run_closes_itself_but_not_its_fence(bench: Bench) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made[0])
    delete(bench, of_run)
    assert not intents.is_closed(bench.world.places.intents, made[0])
    second = lease(bench, fence_id=made[0])
    pod_id, _ = pod(bench, second[0], made[0])
    assert bench.cloud.alive() == [pod_id]
