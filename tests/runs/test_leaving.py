"""A signal ends a worker in seconds, whatever the cloud does, and the next worker goes on with what it left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.runs.test_queue import QueueRoad
from trainyard.errors import StillThere
from trainyard.ledger.queue import QueueEntry
from trainyard.runs.life import teardown
from trainyard.runs.queue import worker
from trainyard.runs.signals import LEAVE, departing, departs_in_time, handled
from trainyard.stacks.model import Operation, OperationOutcome, Stack


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueRoad]:
    made = QueueRoad(tmp_path, monkeypatch)
    yield made
    made.lose_pod()


def trained(road: QueueRoad) -> QueueEntry:
    """Return a run whose training is over, so that the next look of a worker ends its pod."""
    entry = road.submit()
    road.work()
    road.let_train()
    road.later += 60
    return entry


def at_teardown(road: QueueRoad, act: Callable[[], object]) -> None:
    """Do something when a run's stack is to be destroyed, before that is done."""
    before = road.engine.trouble

    def trouble(stack: Stack, operation: Operation) -> OperationOutcome | None:
        if operation == "destroy" and "." in stack.name:
            act()
        return before(stack, operation)

    road.engine.trouble = trouble


def in_a_teardown_without_end(road: QueueRoad) -> BaseProcess:
    """Return a worker that ends a run's pod and gets no answer from its cloud, which asks the engine again and again."""
    begun = multiprocessing.get_context("fork").Event()

    def silent() -> None:
        begun.set()
        for _ in range(6000):  # a sleep that a signal cuts short is slept again
            time.sleep(0.01)

    at_teardown(road, silent)
    child = multiprocessing.get_context("fork").Process(target=lambda: road.work())
    child.start()
    assert begun.wait(30), road.said()
    time.sleep(0.05)
    return child


def test_one_signal_ends_a_worker_whose_cloud_does_not_answer_and_the_next_one_finishes_its_run(
    road: QueueRoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GRACE", 0.7)
    entry, answers = trained(road), road.engine.trouble
    child = in_a_teardown_without_end(road)

    began = time.monotonic()
    child.terminate()
    child.join(20)
    assert child.exitcode == 130 and 0.6 < time.monotonic() - began < 10

    road.engine.trouble = answers
    assert road.cloud.alive() and road.entry(entry).state == "begun"
    road.later += 60
    assert road.work().over == {"ann/a": "succeeded"} and road.cloud.alive() == [], road.said()


def test_a_second_signal_ends_it_at_once(road: QueueRoad) -> None:
    trained(road)
    child = in_a_teardown_without_end(road)

    began = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM):
        assert child.pid is not None
        os.kill(child.pid, number)
        time.sleep(0.05)
    child.join(20)
    assert child.exitcode == StillThere.exit_code and time.monotonic() - began < worker.GRACE


def test_a_signal_that_a_teardown_has_taken_ends_the_worker_when_that_is_over(road: QueueRoad) -> None:
    first, second = trained(road), road.submit("b")
    at_teardown(road, lambda: os.kill(os.getpid(), signal.SIGTERM))

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        road.work()

    assert (road.entry(first).state, road.entry(second).state) == ("over", "queued"), road.said()
    assert road.cloud.alive() == [] and not departs_in_time()


def test_what_is_left_is_said_with_its_pod_and_the_command_that_ends_it(road: QueueRoad) -> None:
    entry = trained(road)
    words = list[str]()

    def look() -> None:
        one = worker._Worker(road.context, None, None, road.clock, 1.0, current=entry)
        words.append(worker._last_words(one, "SIGTERM"))

    at_teardown(road, look)
    road.work()
    assert words[0].startswith("left (SIGTERM) while ann/a was seen to: the next worker goes on with it (invoke worker)")
    assert "there may be pod " in words[0] and "end it now: invoke end " in words[0]


def test_the_last_words_come_within_the_time_whatever_shields_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    said, gone = list[str](), threading.Event()

    def left(code: int) -> None:
        said.append(str(code))
        gone.set()

    with departing(0.6, said.append, lambda by: f"left by {by}", left) as departure:
        with handled(LEAVE, lambda *_: None), teardown.shielded(lambda: "", said.append):
            os.kill(os.getpid(), signal.SIGINT)
            assert gone.wait(20)
        with pytest.raises(KeyboardInterrupt):
            departure.leave_if_asked()
    assert said == ["SIGINT: leaving within 0.6 s, whatever the cloud does; once more: at once", "left by SIGINT", "130"]


def test_who_leaves_in_order_at_once_hears_nothing_of_it_and_another_thread_is_let_be() -> None:
    said = list[str]()
    with pytest.raises(KeyboardInterrupt), departing(60, said.append, str):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    aside = list[bool]()

    def elsewhere() -> None:
        with departing(60, said.append, str):
            aside.append(departs_in_time())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert said == [] and aside == [False]
