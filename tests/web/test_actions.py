"""What is asked for over HTTP becomes exactly one verb's words, and a request that is said twice begins one thing."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.web.conftest import Served
from trainyard.ledger.accounts import SCOPES, Scope
from trainyard.ledger.answers import AnswerRows
from trainyard.ledger.rows import RunRow
from trainyard.web import work
from trainyard.web.rest.commands import OF_RUNS


@pytest.fixture
def client(served: Served, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Of an admin; no process is started: what would be is in the ledger."""
    monkeypatch.setattr(work, "start_apart", lambda *_, **__: io.BytesIO())
    served.account("ann")
    return served.client(served.token("ann"))


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("runs", {"recipe": "lora"}, ["submit", "--stack=local", "--recipe=lora", "--priority=0", "--json"]),
        (
            "runs",
            {"recipe": "lora", "data": "--yes", "values": {"lr": 1e-4, "name": "--a=b", "quiet": True}, "dry_run": True, "name": "a"},
            ["submit", "--stack=local", "--recipe=lora", "--data=--yes", "--name=a", "--priority=0", "--dry-run", "--set=lr=0.0001",
             "--set=name=--a=b", "--set=quiet=true", "--json"],
        ),
        ("runs", {"command": ["sh", "-c", "--json"]}, ["submit", "--stack=local", "--priority=0", "--json", "--", "sh", "-c", "--json"]),
        ("runs/ann/a/cancel", None, ["cancel", "ann/a", "--json"]),
        ("runs/ann/a/cancel", {"now": True}, ["cancel", "ann/a", "--now", "--json"]),
        ("runs/ann/a/resume", {"hours": 2.5, "values": {"steps": 9}}, ["resume", "ann/a", "--hours=2.5", "--set=steps=9", "--json"]),
        ("runs/ann/a/rerun", {"name": "b", "budget": 3}, ["rerun", "ann/a", "--budget=3.0", "--name=b", "--json"]),
        ("runs/ann/a/extend", {"time": "2h"}, ["extend", "ann/a", "2h", "--json"]),
        ("runs/ann/a/deliver", {"to": "hub:ann/model"}, ["deliver", "ann/a", "--to=hub:ann/model"]),
        ("runs/ann/a/remove", {"result": True}, ["remove", "ann/a", "--yes", "--result"]),
        ("runs/ann/a/hold", None, ["queue.hold", "ann/a"]),
        ("runs/ann/a/release", {}, ["queue.release", "ann/a"]),
        ("runs/ann/a/prefer", {"priority": -3}, ["queue.prefer", "ann/a", "--priority=-3"]),
        ("runs/ann/a/approve", None, ["approve", "ann/a"]),
        ("runs/ann/a/reject", None, ["reject", "ann/a"]),
    ],
)  # fmt: skip
def test_a_request_becomes_the_words_of_one_verb(client: TestClient, path: str, body: Any, words: Sequence[str]) -> None:
    answer = client.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["words"] == words
    assert client.get(answer.headers["location"]).json()["words"] == words


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs", {}), ("runs", {"recipe": "lora", "sudo": True}), ("runs", {"recipe": "../x"}), ("runs", {"recipe": "a", "name": "A/../b"}),
        ("runs", {"recipe": "a", "values": {"--yes": 1}}), ("runs", {"recipe": "a", "values": {"x": [1]}}),
        ("runs", {"recipe": "a", "hours": -1}),
        ("runs", {"command": []}), ("runs", {"recipe": "a", "data": "a\nb"}),
        ("runs/ann/a/extend", None), ("runs/ann/a/extend", {"time": "--now"}),
        ("runs/ann/a/prefer", {"priority": 11}), ("runs/ann/a/deliver", {"to": "local:/etc"}), ("runs/ann/A/cancel", None),
        ("runs/..%2f/a/cancel", None), ("runs/--now/a/cancel", None),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_begins_nothing(served: Served, client: TestClient, path: str, body: Any) -> None:
    assert client.post(f"/api/v1/{path}", json=body).status_code in (404, 422)
    assert served.site.operations.newest(1) == []


@pytest.mark.parametrize("command", OF_RUNS, ids=lambda command: command.path)
def test_no_action_goes_without_its_scope(served: Served, client: TestClient, command: Any) -> None:
    less: list[Scope] = [scope for scope in SCOPES if scope not in (command.scope, "admin")]
    body = {"extend": {"time": "1h"}, "prefer": {"priority": 1}, "deliver": {"to": "hub:a/b"}}.get(command.path, {})
    answer = served.client(served.token("ann", *less)).post(f"/api/v1/runs/ann/a/{command.path}", json=body)
    assert answer.status_code == 403
    assert served.site.operations.newest(1) == []


@pytest.mark.parametrize(
    "more",
    [{"data": "/etc/passwd"}, {"data": "rows.jsonl"}, {"deliver": "local:/root"}, {"deliver": "local"}, {"command": ["sh"]},
     {"recipe": "command", "values": {"script": "https://e.example/a.py#sha256=" + "0" * 64}}, {"values": {"script": "/root/.netrc"}},
     {"values": {"code": "/root"}}, {"values": {"model": "/root/model"}}],
)  # fmt: skip
def test_only_an_admin_may_reach_the_servers_machine(served: Served, client: TestClient, more: dict[str, object]) -> None:
    runner = served.client(served.token("ann", "read", "run"))
    body = more if "command" in more else {"recipe": "lora", **more}
    assert runner.post("/api/v1/runs", json=body).status_code == 409
    assert client.post("/api/v1/runs", json=body).status_code == 202
    form = {**{f"v-{name}": value for name, value in more.get("values", {}).items()}, **({"data": more["data"]} if "data" in more else {})}  # type: ignore[attr-defined]
    if form:
        assert runner.post(f"/start/{body['recipe']}", data=form).status_code == 422


def test_a_program_goes_to_a_cloud_and_then_not_to_the_servers_machine(served: Served, client: TestClient) -> None:
    runner = served.client(served.token("ann", "read", "run"))
    assert runner.post("/api/v1/runs", json={"command": ["sh"], "stack": "runpod"}).status_code == 202
    nothing = {field.name: None for field in dataclasses.fields(RunRow)}
    said = {"user": "ann", "label": "first", "attempt": 1, "stack": "runpod", "recipe": "command", "state": "done", "over": True}
    zero = dict.fromkeys(("token", "cloud", "machine"), "") | dict.fromkeys(("created", "hours", "cost", "changed"), served.time)
    first = RunRow(**{**nothing, **zero, "steps_done": 0, "steps_planned": 0, "owed": False, **said})  # type: ignore[arg-type]
    served.site.ledger.put_runs([first])
    for verb in ("rerun", "resume"):
        assert runner.post(f"/api/v1/runs/ann/first/{verb}", json={"stack": "local"}).status_code == 409
        assert runner.post(f"/api/v1/runs/ann/first/{verb}", json={"values": {"code": "/root"}}).status_code == 409
        assert runner.post(f"/api/v1/runs/ann/first/{verb}", json={}).status_code == 202
        assert client.post(f"/api/v1/runs/ann/first/{verb}", json={"stack": "local"}).status_code == 202


def test_a_key_that_is_said_again_begins_nothing_and_gives_the_same_answer_for_a_day(served: Served, client: TestClient) -> None:
    first = client.post("/api/v1/runs", json={"recipe": "lora"}, headers={"Idempotency-Key": "k-1"})
    again = client.post("/api/v1/runs", json={"recipe": "lora"}, headers={"Idempotency-Key": "k-1"})
    assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"
    assert any(word.startswith("--key=server-") for word in first.json()["words"])
    assert client.post("/api/v1/runs", json={"recipe": "nanochat"}, headers={"Idempotency-Key": "k-1"}).status_code == 422
    assert len(served.site.operations.newest(9)) == 1

    served.account("bob")
    other = served.client(served.token("bob")).post("/api/v1/runs", json={"recipe": "lora"}, headers={"Idempotency-Key": "k-1"})
    assert other.json()["id"] != first.json()["id"] and other.json()["words"] != first.json()["words"]

    served.time += 86_401.0
    served.account("ann")
    client.headers["Authorization"] = f"Bearer {served.token('ann')}"
    assert client.post("/api/v1/runs", json={"recipe": "lora"}, headers={"Idempotency-Key": "k-1"}).json()["id"] != first.json()["id"]


def test_of_two_requests_with_one_key_at_once_one_is_answered(served: Served, client: TestClient) -> None:
    rows = AnswerRows(served.site.ledger.database)
    assert rows.take("ann", "k-1", "another's hash", served.time) is None
    assert client.post("/api/v1/runs", json={"recipe": "lora"}, headers={"Idempotency-Key": "k-1"}).status_code == 422
    served.time += 61.0
    assert client.post("/api/v1/runs", json={"recipe": "lora"}, headers={"Idempotency-Key": "k-1"}).status_code == 202


def test_a_request_that_was_refused_keeps_no_key(served: Served, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise OSError("no process")

    monkeypatch.setattr(work, "start_apart", refuse)
    assert client.post("/api/v1/runs", json={"recipe": "lora"}, headers={"Idempotency-Key": "k-2"}).status_code == 500
    monkeypatch.setattr(work, "start_apart", lambda *_, **__: io.BytesIO())
    assert client.post("/api/v1/runs", json={"recipe": "lora"}, headers={"Idempotency-Key": "k-2"}).status_code == 202
