"""A controller that is killed at any point is continued by the next one; `destroy` alone leaves nothing."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.e2e.yard import Yard, kill_tree

SEED = int(os.environ["TRAINYARD_TEST_SEED"])


@pytest.mark.parametrize("phase", ["prepared", "up", "started", "trained"])
def test_attach_finishes_the_story_of_a_controller_killed_in(yard: Yard, phase: str) -> None:
    running = yard.start(*yard.train("--name", "a", steps=8, pause=0.2))
    yard.wait_for(lambda: yard.record("a").get("phase") == phase)
    kill_tree(running)

    done = yard.invoke("attach", "a").expect()

    assert "S3 Location: " in done.out
    assert yard.record("a")["phase"] == "ended" and yard.pods() == []


def test_recover_finishes_after_a_kill_at_a_random_instant(yard: Yard) -> None:
    dice = random.Random(SEED)
    running = yard.start(*yard.train("--name", "a", steps=8, pause=0.2))
    yard.wait_for(lambda: yard.record("a"))
    instant = dice.uniform(0.0, 6.0)
    print(f"seed {SEED}: killed {instant:.2f} s after the record was written")
    time.sleep(instant)
    kill_tree(running)

    yard.invoke("recover").expect()

    assert yard.record("a")["phase"] == "ended" and yard.pods() == []
    assert yard.invoke("runs", "--json").json()[0]["state"] == "succeeded"


def test_destroy_alone_ends_what_a_killed_controller_left_half_made(yard: Yard) -> None:
    running = yard.start(*yard.train("--name", "a", steps=100, pause=0.2))
    yard.wait_for(yard.pods)
    kill_tree(running)

    yard.invoke("destroy", "--stack", "local", "--yes").expect()

    assert yard.pods() == []
