"""Those who watch a server are told what is: of the ledger, the schedule, the queue, what is asked; and strangers nothing."""

from __future__ import annotations

import re

import pytest
from limits import parse
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.web.conftest import ROOT, Served
from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.ledger.duties import DutyRow, DutyRows
from trainyard.web.application import create_application
from trainyard.web.guard import flood


def here(served: Served) -> TestClient:
    return TestClient(
        create_application(served.site), base_url="http://127.0.0.1", client=("127.0.0.1", 50000), raise_server_exceptions=False
    )


def test_figures_are_those_of_the_ledger_and_of_what_was_asked(served: Served) -> None:
    rows = DutyRows(served.site.ledger.database)
    assert rows.take(DutyRow(name="reaper"), "vm 1 x", served.time, served.time + 60)
    client = here(served)
    client.get("/login")
    client.get("/runs/ann/none/1", follow_redirects=False)
    told = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}

    assert told["trainyard_ledger_answers"].samples[0].value == 1
    assert told["trainyard_queue_runs"].samples[0].value == 0
    assert [(s.labels["duty"], s.value) for s in told["trainyard_duty_held"].samples] == [("reaper", 1)]
    asked = {(s.labels["route"], s.labels["status"]) for s in told["trainyard_requests"].samples if s.name.endswith("_total")}
    assert asked == {("/login", "200"), ("/runs/{user}/{label}/{attempt}", "303")}
    assert all(family.documentation.endswith(".") for family in told.values())


@pytest.mark.parametrize(
    ("headers", "client"), [({}, "10.0.0.1"), ({"X-Forwarded-For": "127.0.0.1"}, "127.0.0.1"), ({"Via": "x"}, "127.0.0.1")]
)
def test_figures_go_to_this_machine_or_to_who_may_read(served: Served, headers: dict[str, str], client: str) -> None:
    asking = TestClient(create_application(served.site), base_url="http://127.0.0.1", client=(client, 50000), raise_server_exceptions=False)
    assert asking.get("/metrics", headers=headers, follow_redirects=False).status_code == 303
    served.account("ann", "view")
    token = {"Authorization": f"Bearer {served.token('ann')}"}
    assert asking.get("/metrics", headers={**headers, **token}).status_code == 200


def test_a_server_whose_ledger_does_not_answer_lives_and_is_not_ready(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    client = here(served)
    assert client.get("/readyz").json()["ready"] is True

    def refuse(*_: object) -> None:
        raise UserError("the disk is gone")

    monkeypatch.setattr(DutyRows, "all", refuse)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, {"ledger": "the disk is gone"})
    assert client.get("/healthz").text == "ok\n"
    assert "trainyard_ledger_answers 0.0" in client.get("/metrics").text


def test_a_duty_whose_holder_has_gone_silent_makes_it_not_ready(served: Served) -> None:
    assert DutyRows(served.site.ledger.database).take(DutyRow(name="reaper"), "elsewhere 1 x", served.time, served.time + 60)
    assert here(served).get("/readyz").status_code == 200
    served.time += 61
    assert "reaper" in here(served).get("/readyz").json()["missing"]["duties"]


def test_who_asks_too_often_is_told_when_to_come_back_and_others_are_answered(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.account("ann")
    client = served.client()
    answers = [client.post("/login", data={"token": "ty_0_0"}) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert answers[-1].headers["content-type"] == "application/problem+json"
    assert client.get("/login").status_code == 200 and client.get("/healthz").status_code == 200

    monkeypatch.setattr(flood, "CHANGES", parse("3/minute"))
    one, other = ({"Authorization": f"Bearer {served.token('ann')}"} for _ in range(2))
    assert [client.post("/api/v1/tokens", json={"days": -1}, headers=one).status_code for _ in range(4)] == [422] * 3 + [429]
    assert client.get("/api/v1/me", headers=one).status_code == 200
    assert client.post("/api/v1/tokens", json={"days": -1}, headers=other).status_code == 422


def test_the_dashboard_for_grafana_asks_for_figures_that_there_are(served: Served) -> None:
    client = here(served)
    client.get("/login")
    assert DutyRows(served.site.ledger.database).take(DutyRow(name="reaper"), "vm 1 x", served.time, served.time + 60)
    row = DutyRows(served.site.ledger.database).all()["reaper"]
    assert DutyRows(served.site.ledger.database).end(row, served.time, "done", "")
    told = set(re.findall(r"^# TYPE (\S+)", client.get("/metrics").text, re.MULTILINE))
    series = {f"{name}{end}" for name in told for end in ("", "_total", "_bucket", "_sum", "_count")}
    board = parse_json((ROOT / "docker" / "grafana" / "trainyard.json").read_bytes())
    asked = {name for panel in board["panels"] for target in panel["targets"] for name in re.findall(r"trainyard_\w+", target["expr"])}
    assert asked <= series and len(asked) >= 9
    assert all(panel["datasource"]["uid"] == "${source}" for panel in board["panels"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
