"""Write-once objects on the real server: attempts and fences."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.storage.conftest import places_at
from tests.storage.lying_proxy import Fault, LyingProxy
from trainyard.clock import format_time
from trainyard.errors import RefusedError, StoreError
from trainyard.runs.context import CommandContext
from trainyard.runs.records import attempts
from trainyard.runs.records.parts import RunBucket, RunPod
from trainyard.runs.records.record import RunRecord
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.atwork import at_work
from trainyard.runs.verbs.known import known_in_bucket
from trainyard.storage import markers
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.manifest import ResultKey
from trainyard.storage.markers import Claim

FENCE = "0123456789"


def claim(token: str = "t1") -> Claim:
    return Claim(token, "greg", "laptop", "2026-11-24T10:12:34Z")


def key(user: str = "greg", attempt: int = 1) -> ResultKey:
    return ResultKey(user, "r1", attempt)


def test_an_attempt_is_claimed_once(settings: StoreSettings, tmp_path: Path) -> None:
    places = places_at(tmp_path)
    assert markers.claim_attempt(settings, places, key(), claim())
    assert not markers.claim_attempt(settings, places, key(), claim("t2"))
    assert markers.claim_attempt(settings, places, key("anna"), claim("t2"))
    assert markers.claim_of(settings, key()) == claim() and markers.claim_of(settings, key(attempt=2)) is None


@pytest.mark.parametrize("conditional", [True, False])
def test_one_of_many_claimers_at_once_wins(conditional: bool, settings: StoreSettings, tmp_path: Path) -> None:
    store = replace(settings, conditional=conditional)
    # With If-None-Match each claimer may sit on a machine of its own; without, the lock of one machine stands in.
    homes = [places_at(tmp_path / str(n if conditional else 0)) for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(lambda n: markers.claim_attempt(store, homes[n], key(), claim(f"t{n}")), range(12)))
    assert won.count(True) == 1


def test_twelve_runs_of_one_name_at_once_get_twelve_attempts(settings: StoreSettings, tmp_path: Path) -> None:
    with ThreadPoolExecutor(12) as pool:
        got = pool.map(lambda n: markers.next_attempt(settings, places_at(tmp_path / str(n)), "greg", "r1", claim(f"t{n}")), range(12))
    assert sorted(got) == list(range(1, 13))


def test_a_claim_whose_answer_was_lost_is_still_ours(through: StoreSettings, proxy: LyingProxy, tmp_path: Path) -> None:
    proxy.faults.append(Fault("Put", "lose", key="attempts/"))
    assert markers.claim_attempt(through, places_at(tmp_path), key(), claim())
    assert proxy.faults[0].done == 1 and proxy.count("Put") == 2


def test_a_claim_whose_process_died_is_found_again_by_its_token(settings: StoreSettings, tmp_path: Path) -> None:
    places = places_at(tmp_path)
    assert markers.next_attempt(settings, places, "greg", "r1", claim()) == 1
    assert markers.next_attempt(settings, places, "greg", "r1", claim()) == 1
    assert markers.next_attempt(settings, places, "greg", "r1", claim("t2")) == 2
    assert markers.next_attempt(settings, places, "greg", "r1", claim()) == 3, "what goes on from attempt 2 is not older than it"


def test_a_claim_that_somebody_else_wrote_says_nothing_to_a_terminal(settings: StoreSettings, tmp_path: Path) -> None:
    markers.claim_attempt(settings, places_at(tmp_path), key(), replace(claim(), machine="\x1b[2Jlaptop\n"))
    assert str(markers.claim_of(settings, key())) == "claimed by greg on \\x1b[2Jlaptop\\n, 2026-11-24T10:12:34Z"


@pytest.fixture
def machines(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[CommandContext]:
    """Two machines with checkouts of their own and one bucket."""
    monkeypatch.setattr("trainyard.runs.records.stores.store_of", lambda *_: settings)
    return [CommandContext(places_at(tmp_path / name), {}, Ui(json=True)) for name in ("desk", "laptop")]


def begin(context: CommandContext, after: int | None) -> int:
    context.places.runs.mkdir(parents=True, exist_ok=True)
    with attempts.reserved(context.places.runs, "greg", "r1") as draft:
        number = attempts.claim(context, draft, "greg", "r1", RunBucket("results", "s3"), after=after)
    draft.path.rmdir()  # it has become a run, and that run is over
    return number


def test_of_two_machines_that_go_on_with_one_run_at_once_one_is_refused_and_gives_its_number_back(
    settings: StoreSettings, machines: list[CommandContext]
) -> None:
    assert begin(machines[0], None) == 1
    assert begin(machines[0], 1) == 2
    with pytest.raises(RefusedError, match=r"attempt 2 of greg/r1 was begun meanwhile \(claimed by greg on .*nothing was rented"):
        begin(machines[1], 1)
    given_back = markers.claim_of(settings, key(attempt=3))
    assert given_back is not None and given_back.given_back and "deleted" not in markers.describe_claim(settings, key(attempt=3))
    standing = known_in_bucket(machines[0], settings, "greg", "r1")
    assert standing is not None and standing.key.attempt == 2, "attempt 3 stands for nothing"
    assert not attempts.tokens_here(machines[1].places.runs, "greg", "r1")
    assert begin(machines[1], 2) == 4, "a number that was given back is in nobody's way"


def test_of_two_machines_that_begin_the_same_attempt_one_gets_it_and_after_a_kill_the_same_one_again(
    settings: StoreSettings, machines: list[CommandContext]
) -> None:
    def begin_first(context: CommandContext) -> int:
        with attempts.reserved(context.places.runs, "greg", "r1") as draft:
            attempts.claim(context, draft, "greg", "r1", RunBucket("results", "s3"), exactly=1)
            raise KeyboardInterrupt  # the process died before the claim became a run

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            begin_first(machines[0])
    with pytest.raises(attempts.Overtaken, match=r"attempt 1 of greg/r1 was begun meanwhile \(claimed by greg on .*nothing was rented"):
        begin_first(machines[1])
    assert markers.attempts(settings, "greg", "r1") == [1] and not attempts.tokens_here(machines[1].places.runs, "greg", "r1")


def test_what_a_killed_start_of_this_checkout_has_claimed_is_at_work_for_other_machines_alone(
    settings: StoreSettings, machines: list[CommandContext]
) -> None:
    begun = format_time(time.time())
    with attempts.reserved(machines[0].places.runs, "greg", "r1") as draft:
        assert markers.claim_attempt(settings, machines[0].places, key(), replace(claim(draft.token), time=begun))
        assert at_work(machines[0], settings, key()) is None
        assert at_work(machines[1], settings, key()) is not None


def test_a_local_pod_is_gone_where_its_end_was_seen_not_where_a_machine_has_the_same_name(settings: StoreSettings, tmp_path: Path) -> None:
    own = places_at(tmp_path)
    context = CommandContext(own, {}, Ui())
    markers.claim_attempt(settings, own, key(), replace(claim(), machine=socket.gethostname()))
    end = format_time(time.time() + 3600)
    record = RunRecord(
        "greg", "r1", 1, "lab", "command", {}, "", 1.0, time.time(), cloud="local", pod=RunPod(pod_id="ty-1-2-pod-3", end=end)
    )

    assert at_work(context, settings, key(), record) is not None, "another user's local cloud, or another machine, may have it"
    (own.cloud / "ended").mkdir(parents=True, exist_ok=True)
    (own.cloud / "ended" / "ty-1-2-pod-3.json").write_text('{"reason": "terminated", "ended": 1.0}')
    assert at_work(context, settings, key(), record) is None


def test_of_an_attempt_that_is_taken_its_owner_is_told_and_that_it_may_still_be_at_work(settings: StoreSettings, tmp_path: Path) -> None:
    markers.claim_attempt(settings, places_at(tmp_path), key(), claim())
    assert markers.describe_claim(settings, key()) == (
        "attempt 1 was claimed by greg on laptop, 2026-11-24T10:12:34Z; it has no result and may still be at work"
    )
    s3(settings).put_object(Bucket=settings.bucket, Key=key().success, Body=b"{}")
    assert markers.describe_claim(settings, key()) == "attempt 1 was claimed by greg on laptop, 2026-11-24T10:12:34Z"


def test_an_attempt_that_this_checkout_saw_end_is_not_said_to_be_at_work(settings: StoreSettings, tmp_path: Path) -> None:
    assert markers.describe_claim(settings, key(), ended="t1") == "attempt 1 has ended, on this machine", "it had no bucket then"
    markers.claim_attempt(settings, places_at(tmp_path), key(), claim("t1"))
    assert markers.describe_claim(settings, key(), ended="t1") == "attempt 1 has ended, on this machine"
    assert markers.describe_claim(settings, key(), ended="another").endswith("may still be at work"), (
        "the number is another checkout's, too"
    )


def test_the_next_attempt_is_above_all_that_bucket_and_home_know(settings: StoreSettings, tmp_path: Path) -> None:
    places = places_at(tmp_path)
    markers.claim_attempt(settings, places, key(attempt=7), claim())
    assert markers.next_attempt(settings, places, "greg", "r1", claim("t2")) == 8
    # A result that is older than claims counts as well.
    s3(settings).put_object(Bucket=settings.bucket, Key=key(attempt=9).model + "config.json", Body=b"{}")
    assert markers.attempts(settings, "greg", "r1") == [7, 8, 9]
    assert markers.next_attempt(settings, places, "greg", "r1", claim("t3"), above=11) == 12
    assert markers.attempts(settings, "greg", "r") == []


def test_a_closed_fence_stays_closed_and_closing_may_be_repeated(settings: StoreSettings) -> None:
    assert markers.fence_is_closed(settings, FENCE) is False
    markers.close_fence(settings, FENCE, {"by": "greg"})
    markers.close_fence(settings, FENCE, {"by": "anna"})
    assert markers.fence_is_closed(settings, FENCE) is True
    assert markers.fence_is_closed(settings, "9876543210") is False


def test_a_store_that_does_not_say_is_an_error_never_an_open_fence(through: StoreSettings, proxy: LyingProxy) -> None:
    proxy.faults.append(Fault("Head", "fail", times=99))
    with pytest.raises(StoreError):
        markers.fence_is_closed(through, FENCE)


def test_only_the_form_of_a_fence_id_is_taken(settings: StoreSettings) -> None:
    with pytest.raises(ValueError, match="not a fence id"):
        markers.close_fence(settings, "../models", {})
