"""Pauses grow up to the longest, and what is left to chance stays within its part."""

from __future__ import annotations

from itertools import islice

from trainyard.retries import Backoff


def test_pauses_grow_up_to_the_longest() -> None:
    assert list(islice(Backoff(0.5, 3.0).pauses(), 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert Backoff(1.0, 30.0, 1.5).pause(3) == 2.25
    assert Backoff(1.0, 30.0).pause(10**6) == 30.0


def test_what_is_left_to_chance_stays_within_its_part() -> None:
    half = Backoff(8.0, 20.0, chance=0.5)

    draws = iter((0.0, 0.5, 1.0))
    assert [half.pause(1, lambda: next(draws)) for _ in range(3)] == [4.0, 6.0, 8.0]
    assert all(4.0 <= half.pause(1) <= 8.0 for _ in range(20))
