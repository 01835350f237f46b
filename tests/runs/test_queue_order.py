"""Whose turn it is: priority, hours waited, a fair share of users, limits, and what keeps an entry back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainyard.ledger.queue import QueueEntry
from trainyard.runs.planning.waiting import Predecessor, Readiness, readiness
from trainyard.runs.queue.order import QueueLimits, QueuePlace, QueueView, places
from trainyard.runs.queue.table import lines, plan_lines

HOUR = 3600.0
NOW = 1_000 * HOUR
READY = Readiness("ready")
PENDING = readiness([Predecessor("ann/x", "pending", "in the queue")])


def entry(user: str, label: str, waited: float = 0.0, **more: Any) -> QueueEntry:
    base = QueueEntry(
        id=f"{user}-{label}", user=user, label=label, stack="dev", recipe="lora", submitted=NOW - waited * HOUR,
        submitted_by=user, machine="m",
    )  # fmt: skip
    return replace(base, **more)


def view(
    *entries: QueueEntry, at_once: int = 99, per_user: int = 99, turns: dict[str, float] | None = None, waits: Readiness = READY,
) -> list[QueuePlace]:  # fmt: skip
    return places(QueueView(entries, turns or {}, lambda _: QueueLimits(at_once, per_user), lambda _: waits, NOW))


def starting(found: list[QueuePlace]) -> list[str]:
    return [place.entry.run for place in found if place.state == "starts"]


def why(found: list[QueuePlace], run: str) -> tuple[str, str]:
    return next((place.state, place.why) for place in found if place.entry.run == run)


def test_of_one_user_the_higher_priority_comes_first_and_an_hour_of_waiting_is_one_step_of_it() -> None:
    found = view(entry("ann", "old", 3.0), entry("ann", "urgent", 0.0, priority=2), entry("ann", "vital", 0.0, priority=4))

    assert starting(found) == ["ann/vital", "ann/old", "ann/urgent"]


def test_nothing_that_is_submitted_twenty_hours_later_is_preferred_to_what_waits() -> None:
    found = view(entry("ann", "humble", 20.1, priority=-10), entry("ann", "proud", 0.0, priority=10), at_once=1)

    assert starting(found) == ["ann/humble"]


def test_who_submits_a_hundred_runs_does_not_keep_out_who_submits_one() -> None:
    many = [entry("ann", f"r{number}", 50.0) for number in range(100)]
    begun = [replace(one, state="begun", begun=NOW - 0.1 * HOUR) for one in many[:2]]

    found = view(*begun, *many[2:], entry("bo", "one", 0.0), at_once=3, turns={"ann": NOW - 0.1 * HOUR})

    assert starting(found) == ["bo/one"]


def test_users_take_turns_though_one_was_first() -> None:
    found = view(*(entry("ann", f"a{number}", 9.0) for number in range(3)), *(entry("bo", f"b{number}", 1.0) for number in range(3)))

    assert starting(found) == ["ann/a0", "bo/b0", "ann/a1", "bo/b1", "ann/a2", "bo/b2"]


def test_limits_of_stack_and_user_are_said_and_keep_nobody_else_back() -> None:
    begun = [entry("ann", f"r{number}", 9.0, state="begun") for number in range(2)]
    found = view(*begun, entry("ann", "third", 8.0), entry("bo", "one"), entry("bo", "two"), at_once=3, per_user=2)

    assert starting(found) == ["bo/one"]
    assert why(found, "bo/two") == ("waits", "3 of 3 runs are at work or come first on dev (queue_at_once)")
    alone = view(*begun, entry("ann", "third", 8.0), at_once=3, per_user=2)
    assert why(alone, "ann/third") == ("waits", "2 of 2 runs of ann are at work on dev (queue_per_user)")


def test_what_waits_for_a_person_a_moment_a_try_or_another_run_says_so() -> None:
    broken = readiness([Predecessor("ann/first", "broken", "failed")])
    found = view(
        entry("ann", "held", held="by ann@m"), entry("ann", "dear", approval="needed", approval_why="it may cost $50.00"),
        entry("ann", "late", not_before=NOW + HOUR), entry("ann", "again", due=NOW + 60, reason="no offer"),
        entry("ann", "chained", after=("ann/first",)), entry("ann", "free", approval="approved"), waits=broken,
    )  # fmt: skip

    assert starting(found) == ["ann/free"]
    states = {place.entry.label: (place.state, place.why) for place in found}
    assert states["held"] == ("held", "held by ann@m") and states["dear"][0] == "approval"
    assert states["late"] == ("waits", "not before 1970-02-11T17:00:00Z") and "no offer" in states["again"][1]
    assert states["chained"] == ("broken", "will not begin: ann/first (failed)")
    shown = lines(found, NOW)
    assert max(map(len, shown)) <= 80 and "    invoke approve ann/dear, or invoke reject ann/dear" in shown
    assert plan_lines(found)[0].startswith("begins     ann/free on dev") and plan_lines(found)[-1].endswith("5 would not")


def test_what_waits_behind_a_run_that_waits_for_a_person_is_told_apart() -> None:
    pending = readiness([Predecessor("ann/held", "pending", "in the queue")])
    found = view(
        entry("ann", "held", held="by ann@m"), entry("ann", "next", after=("ann/held",)), entry("ann", "last", after=("ann/next",)),
        entry("ann", "other", after=("ann/elsewhere",)), waits=pending,
    )  # fmt: skip

    assert {place.entry.label: place.state for place in found} == {"held": "held", "next": "blocked", "last": "blocked", "other": "waits"}


def test_what_a_person_can_do_about_a_run_that_will_not_begin_is_said() -> None:
    failed = Predecessor("ann/first", "broken", "failed", "ann/first")
    shown = lines(view(entry("ann", "next", after=("ann/first",)), waits=readiness([failed])), NOW)
    rejected = lines(view(entry("ann", "next", after=("ann/no",)), waits=readiness([Predecessor("ann/no", "broken", "rejected")])), NOW)

    assert shown[-3].strip().startswith("Once ann/first succeeded it begins: invoke resume ann/first")
    assert shown[-2].strip() == rejected[-2].strip() == "Out of the queue: invoke cancel ann/next"
    assert "invoke resume" not in "\n".join(rejected)  # what never ran cannot be resumed


def test_a_run_that_nobody_knows_is_no_reason_to_wait_for_ever() -> None:
    found = view(entry("ann", "next", after=("ann/typo",)), waits=readiness([Predecessor("ann/typo", "unknown", "nobody knows it")]))

    assert why(found, "ann/next") == ("blocked", "waits for ann/typo (nobody knows it)")


def test_a_stack_whose_settings_cannot_be_read_begins_nothing_and_says_why() -> None:
    found = places(QueueView([entry("ann", "a")], {}, lambda _: QueueLimits(0, 0, "unknown setting 'x'"), lambda _: READY, NOW))

    assert why(found, "ann/a") == ("blocked", "unknown setting 'x'")
    behind = [entry("ann", "a"), entry("ann", "b", after=("ann/a",))]
    found = places(QueueView(behind, {}, lambda _: QueueLimits(0, 0, "x"), lambda one: PENDING if one.after else READY, NOW))
    assert [place.state for place in found] == ["blocked", "blocked"], "no waiting mends that: a worker need not wait"


def test_runs_that_wait_for_one_another_say_so_and_no_worker_waits_for_them() -> None:
    found = view(
        entry("ann", "a", after=("ann/b",)), entry("ann", "b", after=("ann/a",)), entry("ann", "c", after=("ann/b",)),
        entry("ann", "d", after=("bo/x",)), waits=PENDING,
    )  # fmt: skip

    assert {place.entry.label: place.state for place in found} == {"a": "blocked", "b": "blocked", "c": "blocked", "d": "waits"}
    assert why(found, "ann/a")[1].startswith("these wait for one another, so that none begins: ann/")


def test_what_comes_after_others_is_not_said_to_wait_for_runs_that_are_not_at_work() -> None:
    found = view(entry("ann", "a", 2.0), entry("ann", "b", 1.0), per_user=1)

    assert why(found, "ann/b") == ("waits", "1 of 1 runs of ann are at work or come first on dev (queue_per_user)")
