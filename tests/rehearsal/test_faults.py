"""Every fault of the rehearsal's table acts, once, for a while, or until it is cleared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.rehearsal.conftest import body
from trainyard.errors import UserError
from trainyard.rehearsal.kit import Emulator
from trainyard.rehearsal.kit.faults import EVERY
from trainyard.rehearsal.runpod import RUNPOD

FAULTS = RUNPOD.faults
_ASKED = {
    "create": ("POST", "/pods"),
    "list": ("GET", "/pods"),
    "get": ("GET", "/pods/{id}"),
    "delete": ("DELETE", "/pods/{id}"),
    "catalog": ("GET", "/catalog/gpus"),
    "graphql": ("POST", "/graphql"),
    EVERY: ("GET", "/pods"),
}


def test_the_table_has_more_than_forty_faults_each_with_a_name_and_a_story() -> None:
    assert len(FAULTS) >= 40 and len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.seen and fault.name == fault.name.lower() for fault in FAULTS)


def expected_status(does: Mapping[str, Any]) -> int | None:
    """Return the status that a fault answers with, None where it is the true answer's."""
    refusal = RUNPOD.refusals.get(does.get("refusal", ""))
    return refusal.status if refusal else does.get("status", RUNPOD.deleted[0] if does.get("ignored") else None)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.kind == "reply"], ids=lambda fault: str(fault.name))
def test_a_reply_fault_changes_the_answer_and_nothing_or_all_happens(api: httpx.Client, paper: Emulator, fault: Any) -> None:
    existing = api.post("/pods", json=body(name="there before")).json()["id"]
    method, path = _ASKED[fault.on]
    url = (paper.address if fault.on == "graphql" else paper.url) + path.format(id=existing)
    before = {record["id"] for record in paper.fleet.all()}
    paper.faults.on(fault.name, times=1, **({"delay": 0.1} if "delay" in fault.does else {}))
    does, answer = fault.does, None
    try:
        given = {"query": "query { myself { clientBalance } }"} if "graphql" in fault.on else body()
        wait = 0.15 if does.get("hang") else 5
        answer = api.request(method, url, json=given if method == "POST" else None, timeout=wait)
    except httpx.HTTPError:
        assert does.get("hang") or does.get("drop")
    changed = {record["id"] for record in paper.fleet.all()} != before
    assert changed is bool(does.get("after") or "delay" in does)
    if answer is not None and "delay" not in does:
        assert answer.status_code == expected_status(does) or (expected_status(does) is None and answer.is_success)
        assert answer.text.startswith("<html>") is bool(does.get("page"))
        for name, value in does.get("headers", {}).items():
            assert answer.headers[name] == value
    assert paper.faults.active() == [], "it was to happen once"


def test_a_fault_lasts_for_calls_or_seconds_or_until_it_is_cleared(paper: Emulator, api: httpx.Client) -> None:
    paper.faults.on("list-500", times=2)
    assert [api.get("/pods").status_code for _ in range(3)] == [500, 500, 200]
    now = time.time()
    paper.faults.now = lambda: now
    paper.faults.on("list-500", seconds=5)
    assert api.get("/pods").status_code == 500
    now += 6
    assert api.get("/pods").status_code == 200
    paper.faults.on("list-500")
    paper.faults.off("list-500")
    assert api.get("/pods").status_code == 200
    with pytest.raises(UserError, match="no fault"):
        paper.faults.on("gremlins")


def test_a_late_pod_is_missing_for_a_while_and_an_ended_one_lingers(api: httpx.Client, paper: Emulator) -> None:
    paper.faults.on("list-late")
    pod_id = api.post("/pods", json=body()).json()["id"]
    assert api.get("/pods").json()["pods"] == [] and api.get(f"/pods/{pod_id}").status_code == 200
    paper.faults.off()
    paper.faults.on("get-late")
    assert api.get(f"/pods/{pod_id}").status_code == 404 and len(api.get("/pods").json()["pods"]) == 1
    paper.faults.off()
    paper.faults.on("deleted-still-listed")
    api.delete(f"/pods/{pod_id}")
    assert pod_id in [pod["id"] for pod in api.get("/pods").json()["pods"]]
    assert api.get(f"/pods/{pod_id}").status_code == 404
    paper.faults.off()
    assert api.get("/pods").json()["pods"] == []


def test_a_lasting_fault_changes_living_pods_and_never_those_that_a_cloud_goes_on_listing(api: httpx.Client, paper: Emulator) -> None:
    ended, alive = (api.post("/pods", json=body()).json()["id"] for _ in range(2))
    paper.faults.on("deleted-still-listed")
    api.delete(f"/pods/{ended}")
    paper.faults.on("list-unknown-status")
    shown = {pod["id"]: pod["status"] for pod in api.get("/pods").json()["pods"]}
    assert shown[alive] == "MIGRATING" and shown[ended] not in ("MIGRATING", None)


@pytest.mark.parametrize(("name", "hours"), [("clock-behind", -1), ("clock-ahead", 1)])
def test_a_skewed_clock_shows_in_dates_and_times(api: httpx.Client, paper: Emulator, name: str, hours: int) -> None:
    from email.utils import parsedate_to_datetime

    paper.faults.on(name)
    answer = api.post("/pods", json=body())
    skew = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    assert abs(skew - hours * 3600) < 5
