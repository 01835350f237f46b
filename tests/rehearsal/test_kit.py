"""The kit alone: an emulator of a cloud that nobody has, whose pods are commands and tell no SSH port."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.conftest import QUICK, eventually
from trainyard.rehearsal.kit import (
    Container,
    EmulatedCloud,
    Emulator,
    ErrorAnswer,
    Fleet,
    Machines,
    NewPod,
    PodFields,
    PodRecord,
    Reply,
    Request,
    Route,
    refuse_beside_the_real,
    start,
)
from trainyard.rehearsal.kit.ledger import gone


def show(fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    state = {"code": record.get("exit_code"), "port": fleet.port(record), "restarts": record["restarts"]}
    return {"id": record["id"], "title": record["name"], "state": record["status"].lower(), **state}


def create(fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    return Reply(200, {"data": show(fleet, fleet.create(NewPod(body, body["title"], 1.0)))})


def delete(fleet: Fleet, request: Request) -> Reply:
    if not fleet.delete(request.id, "asked for"):
        raise fleet.cloud.refuse("not found")
    return Reply(*fleet.cloud.deleted)


def container(machines: Machines, record: PodRecord) -> Container:
    body = record["request"]
    return Container(env={"GREETING": "hello"}, job=("sh", "-c", body["command"]), restarts=body.get("restarts", False))


NIMBUS = EmulatedCloud(
    name="nimbus",
    title="Nimbus",
    real=("nimbus.example",),
    addresses=("NIMBUS_URL",),
    client_env=lambda address, key: {"NIMBUS_URL": address, "NIMBUS_KEY": key},
    routes=(
        Route("GET", "/jobs", "list", lambda fleet, request: Reply(200, {"data": [show(fleet, r) for r in fleet.all()]})),
        Route("GET", "/jobs/*", "get", lambda fleet, request: Reply(200, {"data": show(fleet, fleet.existing(request.id))})),
        Route("GET", "/jobs/*/log", "log", lambda fleet, request: Reply(200, fleet.log(fleet.existing(request.id)))),
        Route("POST", "/jobs", "create", create),
        Route("DELETE", "/jobs/*", "delete", delete),
    ),
    error_reply=lambda answer: Reply(answer.status, {"error": answer.detail}),
    refusals={"not found": ErrorAnswer(404, "no such job"), "unauthorized": ErrorAnswer(403, "who are you?")},
    show=show,
    fields=PodFields(listing="data", single="data", name="title", status="state"),
    deleted=(200, {}),
    container=container,
    new_id=lambda: secrets.token_hex(6),
    key_header="X-Key",
)


@pytest.fixture(scope="module")
def nimbus(root: Path) -> Iterator[Emulator]:
    emulator = start(NIMBUS, root / "nimbus", timing=QUICK, latency=0.002, env={})
    yield emulator
    emulator.stop(end_pods=True)


@pytest.fixture
def jobs(nimbus: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=nimbus.url, headers={"X-Key": nimbus.key}, trust_env=False, timeout=10) as client:
        yield client


def test_a_pod_that_is_a_command_ends_with_its_code_and_is_not_paid_any_more(nimbus: Emulator, jobs: httpx.Client) -> None:
    command = "echo $GREETING; env | grep -c ^TRAINYARD_POD_SOCKET; exit 7"
    job = jobs.post("/jobs", json={"title": "a", "command": command}).json()["data"]["id"]
    eventually(lambda: jobs.get(f"/jobs/{job}").json()["data"]["state"] == "exited")
    over = jobs.get(f"/jobs/{job}").json()["data"]
    assert (over["code"], over["port"], over["restarts"]) == (7, None, 0)
    assert jobs.get(f"/jobs/{job}/log").json() == ["hello", "0"]
    [paid] = [paid for paid in nimbus.ledger() if paid.pod == job]
    assert paid.end is not None and "(7)" in paid.why and list(nimbus.fleet.machines.all()) == []


def test_where_what_has_ended_is_history_it_is_on_no_list_and_its_log_and_code_are_kept(root: Path) -> None:
    emulator = start(replace(NIMBUS, forgets_ended=True), root / "forgets", timing=QUICK, env={})
    try:
        with httpx.Client(base_url=emulator.url, headers={"X-Key": emulator.key}, trust_env=False, timeout=10) as client:
            job = client.post("/jobs", json={"title": "a", "command": "echo hello; exit 7"}).json()["data"]["id"]
            eventually(lambda: gone(emulator.root))
            assert client.get("/jobs").json()["data"] == []
        [record] = gone(emulator.root)
        assert (record["id"], record["exit_code"], record["lost"]) == (job, 7, ["hello"])
        assert [(paid.pod, paid.end is not None) for paid in emulator.ledger()] == [(job, True)] and not list(emulator.fleet.machines.all())
    finally:
        emulator.stop(end_pods=True)


def test_a_killed_command_counts_as_a_shell_counts_and_may_be_started_again(nimbus: Emulator, jobs: httpx.Client) -> None:
    again = {"title": "b", "command": "kill -9 $$", "restarts": True}
    job = jobs.post("/jobs", json=again).json()["data"]["id"]
    eventually(lambda: jobs.get(f"/jobs/{job}").json()["data"]["restarts"] >= 1)
    assert jobs.get(f"/jobs/{job}").json()["data"]["code"] == 137
    assert jobs.delete(f"/jobs/{job}").json() == {} and jobs.delete(f"/jobs/{job}").status_code == 404


def test_answers_come_after_the_latency_and_faults_of_the_kit_know_any_clouds_forms(nimbus: Emulator, jobs: httpx.Client) -> None:
    began = time.monotonic()
    assert jobs.get("/nothing").status_code == 404 and jobs.put("/jobs").json() == {
        "error": "The requested method is not allowed for this path."
    }
    assert time.monotonic() - began >= 0.004
    assert httpx.get(f"{nimbus.url}/jobs", headers={"X-Key": "wrong"}, trust_env=False).status_code == 403
    job = jobs.post("/jobs", json={"title": "c", "command": "sleep 100"}).json()["data"]["id"]
    nimbus.faults.on("list-unknown-status", times=1)
    nimbus.faults.on("get-another", times=1)
    assert "MIGRATING" in {row["state"] for row in jobs.get("/jobs").json()["data"]}
    assert jobs.get(f"/jobs/{job}").json()["data"]["id"] == "another"
    nimbus.faults.on("list-cut", times=1)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        jobs.get("/jobs").json()


def test_an_emulator_never_starts_beside_its_real_cloud() -> None:
    with pytest.raises(Exception, match="leads to the real Nimbus"):
        refuse_beside_the_real(NIMBUS, {"NIMBUS_URL": "https://api.nimbus.example/v1"})
