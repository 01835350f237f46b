"""A lease that is moved while a controller drives the run: cloud, state, watchdog, record and driver agree, also after a kill."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.yard import Yard, kill_tree


def test_a_living_lease_is_moved_and_all_that_keep_it_agree(yard: Yard) -> None:
    running = yard.start(*yard.train("--name", "a", "--hours", "1", steps=600, pause=0.1))
    yard.wait_for(lambda: yard.record("a").get("phase") == "started")
    before = yard.record("a")["pod"]

    moved = yard.invoke("extend", "a", "90m", "--json").expect().json()

    (pod,) = yard.cloud.list()
    assert moved["hours"] == 2.5 and pod.end is not None and moved["end"] > before["end"]
    record = yard.record("a")
    assert (record["pod"]["end"], record["pod"]["stop"], record["hours"]) == (moved["end"], moved["stop"], 2.5)
    assert f"{pod.end:%Y-%m-%dT%H:%M:%SZ}" == moved["end"]
    (state,) = (yard.home / "state").rglob("local.tester.a.1.json")
    assert {o["end"] for o in leases(json.loads(state.read_text()))} == {moved["end"]}
    assert running.poll() is None, "the controller goes on"

    # A killed extend leaves the old lease or the new one, and the next one counts from what the cloud keeps.
    killed = yard.start("extend", "a", "30m")
    yard.wait_for(lambda: "lease of tester/a" in yard.output(killed).readline())
    kill_tree(killed)
    again = yard.wait_for(lambda: retried(yard))
    (pod,) = yard.cloud.list()
    assert f"{pod.end:%Y-%m-%dT%H:%M:%SZ}" == again["end"] and again["hours"] in (3.5, 4.0)
    assert yard.record("a")["pod"]["end"] == again["end"]
    yard.invoke("cancel", "a", "--now").expect()
    running.wait(60)
    assert yard.pods() == []


def retried(yard: Yard) -> Any:
    """Extend by an hour; None while the killed one's engine is still at it."""
    if any((yard.home / "state").rglob("locks/**/*.json")):
        return None
    done = yard.invoke("extend", "a", "1h", "--json")
    return done.json() if done.code == 0 else None


def leases(state: dict[str, Any]) -> list[dict[str, Any]]:
    resources = state["checkpoint"]["latest"]["resources"]
    return [one["outputs"] for one in resources if one["type"] == "trainyard:index:Lease"]
