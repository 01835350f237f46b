"""The reaper ends what is over, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.leases.model_cloud import PLAIN
from trainyard.clock import format_time
from trainyard.clouds.listing import listing_pause
from trainyard.clouds.marker import LONGEST_LEASE
from trainyard.clouds.protocol import PodInfo
from trainyard.errors import CloudError, CloudRefused, CloudUnknown
from trainyard.runs.verbs.reap import judge, reap, rows

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pod(
    name: str,
    *,
    end: datetime | None = None,
    lease: str | None = "0123456789",
    unreadable: bool = False,
    age: timedelta = timedelta(hours=1),
) -> PodInfo:
    return PodInfo(
        id=name, name=name, status="running", raw_status="RUNNING", price_per_hour=2.0, created=NOW - age, fence_id=lease, lease_id=lease,
        end=end, end_unreadable=unreadable,
    )  # fmt: skip


@dataclass
class Account:
    """A cloud's account with a clock of its own and switchable refusals."""

    pods: dict[str, PodInfo]
    stubborn: set[str] = field(default_factory=set)
    asked: Any = field(default_factory=list)
    at: float = NOW.timestamp()
    ahead: timedelta = timedelta()
    """By how much the cloud's clock is ahead of this machine's."""
    name: str = "toy"
    capabilities: object = PLAIN

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC) + self.ahead

    def list(self) -> list[PodInfo]:
        return list(self.pods.values())

    def get(self, pod_id: str) -> PodInfo | None:
        return self.pods.get(pod_id)

    def time(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds

    def terminate(self, pod_id: str) -> None:
        self.asked.append(pod_id)
        if pod_id in self.stubborn:
            raise CloudUnknown("500")
        self.pods.pop(pod_id, None)


def account(*pods: PodInfo, **options: Any) -> Any:
    return Account({p.id: p for p in pods}, **options)


def test_an_end_that_no_lease_reaches_is_no_end_that_can_be_believed() -> None:
    never = datetime(9999, 1, 1, tzinfo=UTC)
    assert judge(pod("a", end=never), NOW) == "unreadable"
    assert judge(pod("a", end=never, age=LONGEST_LEASE + timedelta(hours=1)), NOW) == "over"
    assert judge(pod("a", end=NOW + LONGEST_LEASE), NOW) == "leased"


def test_a_pod_is_over_when_its_end_has_passed_by_the_clouds_clock() -> None:
    assert judge(pod("a", end=NOW - timedelta(seconds=1)), NOW) == "over"
    assert judge(pod("a", end=NOW), NOW) == "over"
    assert judge(pod("a", end=NOW + timedelta(seconds=1)), NOW) == "leased"


def test_a_foreign_pod_is_never_over() -> None:
    assert judge(pod("a", lease=None, age=timedelta(days=999)), NOW) == "foreign"


def test_a_pod_of_ours_with_an_unreadable_end_is_over_only_when_older_than_the_longest_lease() -> None:
    assert judge(pod("a", unreadable=True, age=LONGEST_LEASE), NOW) == "unreadable"
    assert judge(pod("a", unreadable=True, age=LONGEST_LEASE + timedelta(seconds=1)), NOW) == "over"


def test_only_what_is_over_is_ended_and_proved_gone() -> None:
    cloud = account(pod("over", end=NOW - timedelta(hours=1)), pod("young", end=NOW + timedelta(hours=1)), pod("foreign", lease=None))

    found = {row["id"]: row for row in rows(reap(cloud, sleep=cloud.sleep, time=cloud.time))}

    assert set(cloud.asked) == {"over"}
    assert set(cloud.pods) == {"young", "foreign"}
    assert found["over"]["ended"] is True and found["young"]["ended"] is None


@pytest.mark.parametrize("hours", [-3, 3])
def test_where_the_clocks_are_far_apart_only_what_is_over_by_both_is_ended(hours: int) -> None:
    cloud = account(pod("long over", end=NOW - timedelta(hours=9)), ahead=timedelta(hours=hours))
    by_one = NOW + timedelta(hours=hours / 2)
    cloud.pods |= {p.id: p for p in (pod("by one", end=by_one), pod("young", end=NOW + timedelta(hours=9)), pod("foreign", lease=None))}

    found = {row["id"]: row for row in rows(reap(cloud, sleep=cloud.sleep, time=cloud.time))}

    assert set(cloud.asked) == {"long over"} and found["long over"]["ended"] is True
    assert (found["by one"]["verdict"], found["by one"]["ended"]) == ("disputed", False)
    here = NOW + timedelta(seconds=listing_pause(PLAIN))
    assert format_time(here) in found["by one"]["problem"] and format_time(here + timedelta(hours=hours)) in found["by one"]["problem"]
    assert found["young"]["verdict"] == "leased" and found["foreign"]["verdict"] == "foreign"


def test_clocks_that_differ_by_minutes_agree_and_the_clouds_counts() -> None:
    cloud = account(pod("a", end=NOW + timedelta(minutes=3)), ahead=timedelta(minutes=4))

    assert [s.ended for s in reap(cloud, sleep=cloud.sleep, time=cloud.time)] == [True]


def test_a_dry_run_ends_nothing() -> None:
    cloud = account(pod("over", end=NOW))

    assert [s.verdict for s in reap(cloud, dry_run=True, sleep=cloud.sleep, time=cloud.time)] == ["over"]
    assert cloud.asked == []


def test_a_pod_that_cannot_be_ended_is_told_and_does_not_stop_the_others() -> None:
    cloud = account(pod("a", end=NOW), pod("b", end=NOW), stubborn={"a"})

    found = {s.pod.id: s for s in reap(cloud, sleep=cloud.sleep, time=cloud.time)}

    assert found["a"].ended is False and "500" in found["a"].problem
    assert found["b"].ended is True


def test_a_list_that_cannot_be_read_is_an_error_never_an_empty_account() -> None:
    cloud = account()
    cloud.list = lambda: (_ for _ in ()).throw(CloudError("401"))

    with pytest.raises(CloudError):
        reap(cloud, sleep=cloud.sleep, time=cloud.time)


def lying(answer: Callable[..., Any], *lies: PodInfo | Exception) -> Callable[..., Any]:
    """Return ``answer`` as it is when these lies were told, one a call: an error, or what to say instead."""
    left = list(lies)

    def told(*given: str) -> Any:
        lie = left.pop(0) if left else None
        if isinstance(lie, Exception):
            raise lie
        return answer(*given) if lie is None else lie

    return told


def test_a_list_that_gave_no_usable_answer_once_keeps_no_pod_that_is_over() -> None:
    cloud = account(pod("over", end=NOW))
    cloud.list = lying(cloud.list, CloudUnknown("409"))

    assert [s.ended for s in reap(cloud, sleep=cloud.sleep, time=cloud.time)] == [True]


def test_a_definite_no_to_the_list_is_not_asked_again() -> None:
    cloud = account(pod("over", end=NOW))
    cloud.list = lying(cloud.list, CloudRefused("401"))

    with pytest.raises(CloudRefused):
        reap(cloud, sleep=cloud.sleep, time=cloud.time)
    assert cloud.at == NOW.timestamp()


def test_one_answer_by_id_that_disagrees_with_the_list_keeps_no_pod_that_is_over() -> None:
    cloud = account(pod("over", end=NOW))
    cloud.get = lying(cloud.get, pod("over", end=NOW + timedelta(days=9)))

    assert [s.ended for s in reap(cloud, sleep=cloud.sleep, time=cloud.time)] == [True]


def test_a_pod_that_is_over_by_the_list_and_not_by_its_id_is_left_and_told_as_not_ended() -> None:
    cloud = account(pod("over", end=NOW))
    later = pod("over", end=NOW + timedelta(days=9))
    cloud.get = lambda pod_id: later

    (found,) = reap(cloud, sleep=cloud.sleep, time=cloud.time)

    assert cloud.asked == [] and (found.verdict, found.ended) == ("leased", False) and "by its id" in found.problem
