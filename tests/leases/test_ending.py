"""Ending a lease: after it no pod under it can be there, now or later, and a fence ends every lease under it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.leases.bench import FENCE, LeaseBench, lie_once_from, new_bench
from tests.leases.model_cloud import PLAIN
from tests.leases.test_intents import HOLDER, kill
from tests.leases.test_rent import wanted
from trainyard.clouds import absence
from trainyard.errors import CloudUnknown, RefusedError, StillThere, StoreError
from trainyard.leases import ending, fence, intents, rent, sweep, terms
from trainyard.leases.terms import LeaseTerms
from trainyard.leases.world import Interrupted

WAIT = 50.0
"""POST timeout plus settle of the model cloud."""


def lease(bench: LeaseBench, fence_id: str = FENCE) -> LeaseTerms:
    return terms.begin(bench.world, "model", fence_id, 2.0, 30.0)


def the_fence(bench: LeaseBench) -> LeaseTerms:
    return terms.begin(bench.world, "model", None, None, 30.0)


def delete(bench: LeaseBench, made: LeaseTerms, bucket: str | None = None) -> None:
    ending.end_lease(bench.world, "model", made.lease_id, is_fence=made.stop is None, store="s3", bucket=bucket)


def pod(bench: LeaseBench, lease_id: str, fence_id: str = FENCE) -> str:
    return rent.obtain(bench.world, bench.cloud, wanted(lease_id, fence_id=fence_id))[0].id


def test_a_lease_under_which_nothing_was_asked_goes_without_waiting(bench: LeaseBench) -> None:
    made = lease(bench)
    delete(bench, made)
    assert sum(bench.slept) < 10
    assert not intents.has_folder(bench.world.places.intents, made.lease_id)
    assert intents.is_closed(bench.world.places.intents, made.lease_id)


def test_deletion_ends_the_pod_and_those_that_only_carry_the_id(bench: LeaseBench) -> None:
    made = lease(bench)
    pod(bench, made.lease_id)
    bench.cloud.add("renamed by somebody", None, made.lease_id)  # type: ignore[arg-type]
    other = bench.cloud.add(f"ty-{FENCE}-{'7' * 10}-pod-00000000", FENCE, "7" * 10)
    delete(bench, made)
    assert bench.cloud.alive() == [other]


def test_a_pod_that_has_finished_where_that_costs_nothing_is_not_asked_to_end_and_that_is_said(bench: LeaseBench) -> None:
    bench.cloud.capabilities = replace(PLAIN, finished_free=True)
    done, works = (bench.cloud.add(name, FENCE, "7" * 10, status=status) for name, status in (("a", "exited"), ("b", "running")))
    for pod_id in (done, works):
        ending.end_pod(bench.world, bench.cloud, pod_id)
    assert bench.cloud.alive() == [done] and bench.cloud.calls("terminate") == 1
    assert f"pod {done} has finished by itself (EXITED) and costs nothing any more" in " ".join(bench.messages)
    assert not absence.prove(bench.cloud, [absence.KnownPod(done)], time=lambda: bench.at[0], sleep=bench.world.sleep).there


def test_a_pod_that_the_list_still_shows_has_not_finished_whatever_is_said_of_it_by_its_id(bench: LeaseBench) -> None:
    bench.cloud.capabilities = replace(PLAIN, finished_free=True)
    pod_id = bench.cloud.add("a", FENCE, "7" * 10, status="exited")
    bench.cloud.set_faults(**{"terminate/ignored": "yes"})
    proof = absence.prove(bench.cloud, [absence.KnownPod(pod_id)], time=lambda: bench.at[0], sleep=bench.world.sleep)
    assert [left.why for left in proof.there] == ["the list still shows it, though model has taken the request to end it"]


def test_a_request_with_unknown_outcome_is_waited_out_and_its_pod_ended(bench: LeaseBench) -> None:
    made = lease(bench)
    bench.cloud.set_faults(create=["error", "error"])
    with pytest.raises(CloudUnknown):
        pod(bench, made.lease_id)
    asked = bench.at[0] - bench.cloud.capabilities.settle  # the create itself watched for the settle time
    name = next(path.name for path in intents.of_lease(bench.world.places.intents, made.lease_id))
    bench.during += [lambda: None, lambda: [bench.cloud.add(name, FENCE, made.lease_id)]]  # type: ignore[list-item]
    delete(bench, made)
    assert bench.cloud.alive() == []
    assert bench.at[0] >= asked + WAIT


def test_a_pod_that_only_its_intent_names_is_ended_by_id(bench: LeaseBench) -> None:
    made = lease(bench)
    pod_id = pod(bench, made.lease_id)
    bench.cloud.change(pod_id, visible=bench.at[0] + 10_000)
    delete(bench, made)
    assert bench.cloud.alive() == []


def test_an_empty_listing_is_not_believed_before_what_was_just_created_must_show(bench: LeaseBench) -> None:
    made = lease(bench)
    pod_id = pod(bench, made.lease_id)
    # A twin that the cloud made of the same request shows late.
    state = bench.cloud.state(pod_id)
    bench.cloud.add(state["name"], FENCE, made.lease_id, visible=bench.at[0] + 19)
    delete(bench, made)
    assert bench.cloud.alive() == []


def test_without_the_folder_of_intents_the_wait_counts_from_now(bench: LeaseBench) -> None:
    made = lease(bench)
    pod_id = pod(bench, made.lease_id)
    bench.cloud.change(pod_id, visible=bench.at[0] + WAIT - 1)
    intents.remove_folder(bench.world.places.intents, made.lease_id)
    began = bench.at[0]
    delete(bench, made)
    assert bench.cloud.alive() == []
    assert bench.at[0] - began >= WAIT


def test_one_empty_listing_is_no_proof_where_the_cloud_needs_two(bench: LeaseBench) -> None:
    made = lease(bench)
    bench.cloud.add("the cloud does not list it at first", FENCE, made.lease_id)
    lie_once_from(bench, bench.at[0])
    delete(bench, made)
    assert bench.cloud.alive() == []


def test_a_clock_set_back_does_not_lengthen_the_wait(bench: LeaseBench) -> None:
    made = lease(bench)
    bench.cloud.set_faults(create=["error", "error"])
    with pytest.raises(CloudUnknown):
        pod(bench, made.lease_id)
    bench.at[0] -= 86400
    began = bench.at[0]
    delete(bench, made)
    assert bench.at[0] - began <= WAIT + 10


def test_deletion_waits_for_a_living_creator_in_another_process(bench: LeaseBench) -> None:
    made = lease(bench)
    name = f"ty-{FENCE}-{made.lease_id}-pod-0123abcd"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(bench.world.places.intents), name, "start=1800000000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout and process.stdout.readline() == b"held\n"
    polls: list[int] = []

    def accept_and_die() -> None:
        polls.append(len(bench.messages))
        bench.cloud.add(name, FENCE, made.lease_id)
        kill(process)

    bench.during += [lambda: None, accept_and_die]
    delete(bench, made)
    assert any("waiting for the process that creates" in text for text in bench.messages)
    assert polls
    assert bench.cloud.alive() == []


def test_terminate_that_fails_for_a_while_is_repeated_until_it_works(bench: LeaseBench) -> None:
    made = lease(bench)
    pod(bench, made.lease_id)
    bench.cloud.set_faults(terminate=["error"] * 5)
    delete(bench, made)
    assert bench.cloud.alive() == []


def test_a_stubborn_pod_does_not_keep_the_others_alive_and_is_named_with_its_price(bench: LeaseBench) -> None:
    made = lease(bench)
    stubborn = pod(bench, made.lease_id)
    bench.cloud.add(f"ty-{FENCE}-{made.lease_id}-other-00000000", FENCE, made.lease_id)
    real = bench.cloud.terminate
    bench.cloud.terminate = lambda pod_id: None if pod_id == stubborn else real(pod_id)  # type: ignore[method-assign]
    with pytest.raises(StillThere, match=rf"{stubborn} \(\$1\.00/h"):
        delete(bench, made)
    assert bench.cloud.alive() == [stubborn]
    assert intents.has_folder(bench.world.places.intents, made.lease_id)


def test_a_listing_that_fails_keeps_the_lease(bench: LeaseBench) -> None:
    made = lease(bench)
    pod(bench, made.lease_id)
    bench.cloud.set_faults(list="error")
    with pytest.raises(StillThere, match="cannot be read: 503 on list"):
        delete(bench, made)
    assert intents.has_folder(bench.world.places.intents, made.lease_id)


def test_the_pod_is_not_created_any_more_once_its_lease_was_deleted(bench: LeaseBench) -> None:
    made = lease(bench)
    delete(bench, made)
    with pytest.raises(RefusedError):
        pod(bench, made.lease_id)
    assert bench.cloud.calls("create") == 0


def test_an_orphaned_plugin_ends_nothing(bench: LeaseBench) -> None:
    made = lease(bench)
    pod_id = pod(bench, made.lease_id)
    bench.world.control.orphan()
    with pytest.raises(Interrupted):
        delete(bench, made)
    assert bench.cloud.alive() == [pod_id]


def test_the_fence_sweeps_the_pods_of_every_lease_under_it(bench: LeaseBench) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made.lease_id)
    pod(bench, of_run.lease_id, made.lease_id)
    bench.cloud.add("a pod of a run on another machine", made.lease_id, "6" * 10)
    other = bench.cloud.add("another environment", "8" * 10, "6" * 10)
    delete(bench, made)
    assert bench.cloud.alive() == [other]
    assert intents.has_folder(bench.world.places.intents, of_run.lease_id), "only a lease removes its own intents"


def test_the_fence_is_closed_before_it_looks_so_that_a_waiting_create_refuses(bench: LeaseBench) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made.lease_id)
    seen: list[bool] = []
    real = bench.cloud.list

    def listing() -> object:
        seen.append(intents.is_closed(bench.world.places.intents, made.lease_id))
        return real()

    bench.cloud.list = listing  # type: ignore[method-assign,assignment]
    delete(bench, made)
    assert seen and all(seen)
    with pytest.raises(RefusedError, match="environment"):
        pod(bench, of_run.lease_id, made.lease_id)


def test_the_fence_waits_out_requests_of_runs_with_unknown_outcome(bench: LeaseBench) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made.lease_id)
    bench.cloud.set_faults(create=["error", "error"])
    with pytest.raises(CloudUnknown):
        pod(bench, of_run.lease_id, made.lease_id)
    asked = bench.at[0] - bench.cloud.capabilities.settle
    delete(bench, made)
    assert bench.at[0] >= asked + WAIT


def test_a_store_that_is_down_does_not_keep_pods_alive_but_the_lease_stays_for_a_retry(
    bench: LeaseBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made.lease_id)
    pod(bench, of_run.lease_id, made.lease_id)

    def down(*args: object) -> None:
        raise StoreError("the store does not answer")

    monkeypatch.setattr(fence, "close_in_bucket", down)
    with pytest.raises(StoreError):
        delete(bench, made, "b")
    assert bench.cloud.alive() == []
    monkeypatch.setattr(fence, "close_in_bucket", lambda *args: None)
    delete(bench, made, "b")


def test_a_lease_of_a_run_closes_itself_but_not_its_fence(bench: LeaseBench) -> None:
    made = the_fence(bench)
    of_run = lease(bench, fence_id=made.lease_id)
    delete(bench, of_run)
    assert not intents.is_closed(bench.world.places.intents, made.lease_id)
    second = lease(bench, fence_id=made.lease_id)
    pod_id = pod(bench, second.lease_id, made.lease_id)
    assert bench.cloud.alive() == [pod_id]


# One pod


def test_a_pod_is_asked_again_until_it_goes(bench: LeaseBench) -> None:
    pod_id = pod(bench, lease(bench).lease_id)
    bench.cloud.set_faults(**{"terminate/ignored": ["yes", "yes"]})
    ending.end_pod(bench.world, bench.cloud, pod_id)
    assert bench.cloud.alive() == [] and bench.cloud.calls("terminate") == 3


def test_a_pod_that_never_heeds_is_told_with_id_and_price(bench: LeaseBench) -> None:
    pod_id = pod(bench, lease(bench).lease_id)
    bench.cloud.set_faults(**{"terminate/ignored": "yes"})
    with pytest.raises(StillThere, match=rf"pod {pod_id} is still there \(RUNNING, \$1\.00 per hour\)"):
        ending.end_pod(bench.world, bench.cloud, pod_id)


# Terms


def test_a_lease_counts_by_the_cloud_s_clock_and_is_over_at_its_end_or_when_it_is_closed(bench: LeaseBench) -> None:
    made = lease(bench)
    assert made.stop and made.end and made.start == bench.cloud.now()
    assert ((made.stop - made.start).total_seconds(), (made.end - made.stop).total_seconds()) == (7200, 1800)
    assert terms.over(bench.world, made.lease_id, made.end) is None
    bench.at[0] = made.end.timestamp()
    assert str(terms.over(bench.world, made.lease_id, made.end)).startswith("ended at 2027-")
    sweep.close(bench.world.places.intents, made.lease_id, bench.world.time(), is_fence=False)
    assert terms.over(bench.world, made.lease_id, None) == "was closed by a destroy"


def test_what_cannot_be_closed_here_is_told_and_believed_late_and_the_others_are_closed(tmp_path: Path) -> None:
    made, root = new_bench(tmp_path), tmp_path / "intents"
    (root / "closed" / ("1" * 10)).mkdir(parents=True)
    troubles: list[Exception] = []

    began = time.time()
    memory = sweep.close_all(root, ["1" * 10, "2" * 10], made.cloud.capabilities, say=print, on_trouble=troubles.append)

    assert [type(error) for error in troubles] == [IsADirectoryError] and intents.is_closed(root, "2" * 10)
    assert memory.ids == () and memory.trusted_from >= began + WAIT, "a create may be under way, as far as is known"
