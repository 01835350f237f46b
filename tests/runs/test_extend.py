"""Moving the lease of a living run: what is asked before, what is refused, and who notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.runs.road import LEASE, STACK, Road
from trainyard.clock import format_time
from trainyard.clouds.protocol import PodInfo
from trainyard.errors import EngineError, RefusedError, UserError
from trainyard.ledger.ledger import Ledger
from trainyard.runs.life.drive import drive
from trainyard.runs.records import movedlease
from trainyard.runs.verbs import extend as verb
from trainyard.runs.verbs.extend import MovedLease, extend
from trainyard.stacks import facade
from trainyard.stacks.model import Operation, OperationOutcome, Stack

UNTIL_TOLD = "echo going; trap 'exit 75' TERM; while :; do sleep 0.05; done"


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    made.engine.trouble = mover(made)
    yield made
    made.lose_pod()


def mover(road: Road) -> Callable[[Stack, Operation], None]:
    """Do what the provider's Update does: the second up of a run's stack moves the marks of its pod."""
    seen: list[str] = []

    def move(stack: Stack, operation: Operation) -> None:
        if operation != "up" or "." not in stack.name:
            return
        seen.append(stack.name)
        if len(seen) > 1:
            pod = pod_of(road)
            assert pod.stop and pod.end
            road.cloud.change_markers(pod.id, pod.stop + timedelta(hours=1), pod.end + timedelta(hours=1))
            road.engine.end += timedelta(hours=1)

    return move


def pod_of(road: Road) -> PodInfo:
    (pod,) = [pod for pod in road.cloud.list() if pod.lease_id == LEASE]
    return pod


def while_running(road: Road, act: Callable[[], Any], **asked: Any) -> Any:
    def act_and_end() -> Any:
        try:
            return act()
        finally:
            road.context.folder("a").cancel(now=True)

    _, came = road.while_training(act_and_end, UNTIL_TOLD, **asked)
    if isinstance(came[0], BaseException):
        raise came[0]
    return came[0]


def test_the_controller_that_drives_the_run_notices_and_says_so(road: Road) -> None:
    def act() -> tuple[MovedLease, Any]:
        return extend(road.context, "a", "1h"), road.context.folder("a").load()

    moved, record = while_running(road, act, hours=2.0)

    assert (record.pod.end, record.hours) == (moved.end, 3.0) and moved.most == pytest.approx(3.5)
    assert "lease      moved: its stop is now" in road.said() and "1 h more: at most $3.50 in all" in road.said()
    assert Ledger(road.context.places.ledger).events(kind="extended")[0].data == {"estimate": 3.5, "hours": 3.0}


@pytest.mark.parametrize("text", ["", "0h", "-1h", "2", "2 days", "1h30", "nanh", "1e3h"])
def test_what_is_no_time_is_refused_before_anything_is_looked_at(text: str, road: Road) -> None:
    with pytest.raises(UserError, match="is no time to extend a lease by"):
        extend(road.context, "a", text)


def test_a_run_without_a_pod_and_one_that_has_ended_are_refused(road: Road) -> None:
    folder = road.prepare(name="a")
    with pytest.raises(RefusedError, match="no pod that is up yet"):
        extend(road.context, "a", "1h")
    drive(road.context, folder)
    with pytest.raises(RefusedError, match="is over") as refused:
        extend(road.context, "a", "1h")
    assert refused.value.exit_code == 3 and "invoke show ann/a" in str(refused.value.hint)


@pytest.mark.parametrize(("checkpoint", "next_"), [("c-1", "invoke resume ann/a --stack dev"), (None, "invoke rerun ann/a/1 --stack dev")])
def test_of_a_run_that_failed_it_names_the_command_that_is_not_refused(checkpoint: str | None, next_: str, road: Road) -> None:
    folder = road.prepare(name="a")
    record = folder.load()
    record.phase, record.error, record.checkpoint = "ended", "it was cancelled", checkpoint
    folder.save(record)

    with pytest.raises(RefusedError, match="is over") as refused:
        extend(road.context, "a", "1h")
    assert next_ in str(refused.value.hint).splitlines()[-1]


@pytest.mark.parametrize(
    ("by", "settle", "asked", "says"),
    [
        ("744h", "", {}, "would be longer than 31 days"),
        ("1h", "limit_day: 3.0", {"hours": 2.0}, r"limit_day is \$3.00"),
        ("1h", "", {"hours": 2.0, "budget": 1.0}, "is used up before its stop"),
    ],
)
def test_the_longest_lease_limits_and_budget_are_asked_and_nothing_is_changed(
    by: str, settle: str, asked: dict[str, Any], says: str, road: Road
) -> None:
    if settle:
        road.settle(settle)

    def act() -> tuple[Any, Any]:
        before = pod_of(road)
        with pytest.raises(RefusedError, match=says):
            extend(road.context, "a", by)
        return before, pod_of(road)

    before, after = while_running(road, act, **asked)
    assert (before.stop, before.end) == (after.stop, after.end)
    assert [operation for name, operation in road.engine.asked if name.startswith(f"{STACK}.")].count("up") == 1


def test_an_extend_that_fails_reserves_nothing_for_the_longer_lease(road: Road) -> None:
    road.settle("limit_day: 5.0")
    ups: list[str] = []

    def second_up_fails(stack: Stack, operation: Operation) -> OperationOutcome | None:
        ups.extend([stack.name] if operation == "up" and "." in stack.name else [])
        return OperationOutcome("builtin", operation, 1, 0.0) if operation == "up" and len(ups) > 1 else None

    road.engine.trouble = second_up_fails

    def act() -> None:
        with pytest.raises(EngineError, match="was not moved"):
            extend(road.context, "a", "1h")

    while_running(road, act, hours=2.0)
    assert [event.data["estimate"] for event in Ledger(road.context.places.ledger).events(kind="extended")] == [3.5, 2.5]


def test_a_cloud_that_cannot_change_a_running_pod_says_so_and_what_to_do_instead(road: Road) -> None:
    road.cloud.capabilities = replace(road.cloud.capabilities, change_markers=False)

    def act() -> str:
        with pytest.raises(RefusedError, match="cannot change the end that a running pod keeps for itself") as refused:
            extend(road.context, "a", "2h")
        return str(refused.value.hint)

    hint = while_running(road, act)
    assert f"invoke resume ann/a --hours 2 --stack {STACK}" in hint and "saves a checkpoint" in hint


def test_where_whole_hours_are_sold_a_part_of_one_is_refused_before_anything_changes(road: Road) -> None:
    road.cloud.capabilities = replace(road.cloud.capabilities, whole_hours=True)

    def act() -> str:
        with pytest.raises(RefusedError, match="sells whole hours: a lease is not moved by 90m") as refused:
            extend(road.context, "a", "90m")
        return str(refused.value.hint)

    assert while_running(road, act) == "invoke extend ann/a 2h"


class Killed(BaseException):
    """What SIGKILL leaves undone."""


@pytest.mark.parametrize("point", ["publish_now", "asked", "_write_hours", "operate", "moved", "_let_it_be_known"])
def test_killed_at_any_point_it_leaves_one_lease_and_the_next_extend_counts_from_what_the_cloud_keeps(point: str, road: Road) -> None:
    def kill(*_: object, **__: object) -> None:
        raise Killed(point)

    def act() -> tuple[Any, ...]:
        with pytest.MonkeyPatch.context() as patch:
            if point == "operate":
                patch.setattr(facade, "operate", kill)
            elif point in ("asked", "moved"):
                real = movedlease.mark_moving
                patch.setattr(verb, "mark_moving", lambda *a, done: kill() if done is (point == "moved") else real(*a, done=done))
            else:
                patch.setattr(verb, point, kill)
            before = pod_of(road)
            with pytest.raises(Killed):
                extend(road.context, "a", "1h")
        killed = pod_of(road)
        again = extend(road.context, "a", "1h")
        return before, killed, again, pod_of(road), road.context.folder("a").load()

    before, killed, again, after, record = while_running(road, act, hours=2.0)

    assert before.end and killed.end and after.end
    assert killed.end - before.end in (timedelta(0), timedelta(hours=1)) and after.end - killed.end == timedelta(hours=1)
    assert (
        (record.pod.end, record.hours)
        == (again.end, again.hours)
        == (format_time(after.end), 2.0 + (after.end - before.end) / timedelta(hours=1))
    )
