"""Pods that a stack declares cost money like those of runs: estimated, held to the limits, on our ledger as in the cloud's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.faults.world import STACK, CloudYard, World
from trainyard.ledger.ledger import Ledger


@pytest.fixture
def yard(cloud_world: World) -> Iterator[CloudYard]:
    yield cloud_world.yard()
    cloud_world.clear()


def spent(yard: CloudYard) -> float:
    return sum(Ledger(yard.places.ledger).costs_since(0.0).values())


def test_declared_pods_are_held_to_the_limits_and_counted_like_the_books(yard: CloudYard) -> None:
    since = time.time()
    yard.settings(pods=2, hours=2, limit_day=0.3)
    refused = yard.invoke("up", "--stack", STACK)
    assert refused.code == 3 and "2 declared pods may add" in refused.err + refused.out, refused
    assert not yard.world.pods()

    yard.settings(pods=2, hours=2, limit_day=2)
    done = yard.invoke("up", "--stack", STACK).expect(0)
    assert "2 pods, each" in done.out and "at most $" in done.out
    pod = yard.world.pods()[0]
    price = pod["price"] + pod["disk_price"]  # RunPod bills a pod's disks beside it
    assert spent(yard) == pytest.approx(2 * price * (2 + 1 / 60)), "the whole lease, while nobody follows them"
    yard.invoke("up", "--stack", STACK).expect(0)
    assert spent(yard) == pytest.approx(2 * price * (2 + 1 / 60)), "an up that rents nothing adds nothing"
    yard.settings(hours=10, limit_day=2)
    assert yard.invoke(*yard.train("--name", "a")).code == 3, "a run's limit counts them"

    yard.settings(pods=2, hours=2, limit_day=2)
    yard.invoke("destroy", "--stack", STACK, "--yes").expect(0)
    ledger = sum(paid.cost(time.time()) for paid in yard.world.paid(since))
    assert spent(yard) == pytest.approx(ledger, abs=2 * price * 3 / 3600)


def test_an_up_that_rented_nothing_is_not_counted_twice(yard: CloudYard) -> None:
    yard.settings(pods=1, hours=2, limit_day=0.6)
    yard.world.emulator.faults.on("create-no-capacity")
    assert yard.invoke("up", "--stack", STACK).code == 4
    yard.world.emulator.faults.off()
    yard.invoke("up", "--stack", STACK).expect(0)
    assert 0 < spent(yard) <= 0.6


def test_what_declared_pods_have_cost_stays_spent_when_they_are_lost(yard: CloudYard) -> None:
    yard.settings(pods=1, hours=2, limit_day=0.6)
    yard.invoke("up", "--stack", STACK).expect(0)
    before = spent(yard)
    yard.world.clear()
    yard.invoke("refresh", "--stack", STACK, "--yes").expect(0)
    assert yard.invoke("up", "--stack", STACK).code == 3
    assert spent(yard) == before


def test_a_pod_that_a_killed_up_has_asked_for_is_looked_for_where_nothing_else_is_on_offer(yard: CloudYard) -> None:
    yard.settings(pods=1, hours=2, limit_day=0.6)
    yard.world.emulator.faults.on("create-no-capacity")
    assert yard.invoke("up", "--stack", STACK).code == 4
    yard.world.emulator.faults.off()
    yard.settings(pods=1, hours=2, limit_day=0.6, max_price=0.01)
    refused = yard.invoke("up", "--stack", STACK)
    assert refused.code == 4 and "looked for" not in refused.out + refused.err

    [intent] = yard.places.intents.glob("*/ty-*")
    with intent.open("a") as file:  # what a SIGKILL behind the request leaves
        file.write(json.dumps({"event": "start", "offer": "any", "time": time.time() - 3600}) + "\n")
    looked = yard.invoke("up", "--stack", STACK)
    assert "looked for" in looked.out + looked.err
