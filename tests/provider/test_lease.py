"""Lease: deadlines, expiry, and a deletion after which no pod of the lease can be there, now or later."""

from __future__ import annotations

import pytest

from tests.leases.bench import FENCE
from tests.provider.conftest import Bench, pod_inputs
from trainyard.clouds.marker import is_id
from trainyard.errors import RefusedError
from trainyard.leases import fence, intents
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
        ({"rescue_minutes": -1}, "must be at least 0"),
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


# Deletion (what ends pods is tried in tests/leases/test_ending.py)


def test_deletion_ends_what_lies_under_the_lease_and_no_pod_comes_after_it(bench: Bench) -> None:
    made = lease(bench)
    pod(bench, made[0])
    delete(bench, made)
    assert bench.cloud.alive() == [] and not intents.has_folder(bench.world.places.intents, made[0])
    with pytest.raises(RefusedError):
        pod(bench, made[0])


def test_the_fence_s_deletion_ends_every_pod_of_the_environment(bench: Bench) -> None:
    made = the_fence(bench)
    pod(bench, lease(bench, fence_id=made[0])[0], made[0])
    delete(bench, made)
    assert bench.cloud.alive() == [] and intents.is_closed(bench.world.places.intents, made[0])
