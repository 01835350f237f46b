"""Who may do what is changed by admins alone, each change is in the audit log, and nobody gives more than he has."""

from __future__ import annotations

import pytest

from tests.web.conftest import Served
from trainyard.jsontext import parse_json
from trainyard.ledger import auditlog
from trainyard.ledger.auditlog import AuditFilter


def test_an_admin_makes_accounts_and_teams_and_the_log_tells_who(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    assert client.put("/api/v1/teams/blue", json={"month_dollars": 50}).status_code == 200
    answer = client.post("/api/v1/accounts", json={"name": "bob", "role": "run", "team": "blue", "live_runs": 2})
    assert (answer.status_code, answer.json()["team"]) == (201, "blue")
    changed = client.patch("/api/v1/accounts/bob", json={"role": "approve", "team": "", "live_runs": -1}).json()
    assert (changed["role"], changed["team"], changed["live_runs"]) == ("approve", None, None)
    listed = client.get("/api/v1/accounts").json()
    assert [each["name"] for each in listed["accounts"]] == ["ann", "bob"] and listed["teams"][0]["month_dollars"] == 50

    rows = auditlog.rows(served.site.ledger.database, AuditFilter())
    assert [(row.actor, row.action, row.subject) for row in rows] == [
        ("ann", "set team", "blue"), ("ann", "add account", "bob"), ("ann", "change account", "bob"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body", [{"name": "Bob"}, {"name": "b/../c"}, {"name": "ann"}, {"name": "bob", "role": "root"}, {"name": "bob", "team": "none"},
             {"name": "bob", "month_dollars": -2}, {"name": "bob", "live_runs": 0.5}, {"role": "run"}],
)  # fmt: skip
def test_an_account_that_cannot_be_is_not_made(served: Served, body: dict[str, object]) -> None:
    served.account("ann")
    assert served.client(served.token("ann")).post("/api/v1/accounts", json=body).status_code == 422
    assert [each.name for each in served.site.accounts.all()] == ["ann"]


def test_the_last_admin_stays_one(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    for change in ({"role": "view"}, {"disabled": True}):
        assert client.patch("/api/v1/accounts/ann", json=change).status_code == 422
    served.account("bob")
    assert client.patch("/api/v1/accounts/ann", json={"disabled": True}).status_code == 200
    assert client.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize("role", ["view", "run", "approve"])
def test_nobody_but_an_admin_sees_or_changes_others(served: Served, role: str) -> None:
    served.account("ann")
    theirs = served.token("ann").split("_")[1]
    served.account("bob", role)  # type: ignore[arg-type]
    client = served.client(served.token("bob"))
    assert client.get("/api/v1/accounts").status_code == 403
    assert client.post("/api/v1/accounts", json={"name": "eve"}).status_code == 403
    assert client.patch("/api/v1/accounts/bob", json={"role": "admin"}).status_code == 403
    assert client.put("/api/v1/teams/blue", json={}).status_code == 403
    assert {each["account"] for each in client.get("/api/v1/tokens").json()["tokens"]} == {"bob"}
    assert client.delete(f"/api/v1/tokens/{theirs}").status_code == 404


def test_a_token_makes_no_token_that_may_more_than_it_does(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann", "read", "run"))
    assert client.post("/api/v1/tokens", json={"scopes": ["admin"]}).status_code == 403
    new = client.post("/api/v1/tokens", json={"name": "ci"}).json()
    assert new["row"]["scopes"] == ["read", "run"]
    assert served.client(new["token"]).get("/api/v1/runs").status_code == 200
    assert client.delete(f"/api/v1/tokens/{new['row']['id']}").status_code == 204
    assert served.client(new["token"]).get("/api/v1/runs").status_code == 401
    told = [parse_json(row.data) for row in auditlog.rows(served.site.ledger.database, AuditFilter(action="create token"))]
    assert new["token"] not in str(told) and told[0]["scopes"] == ["read", "run"]
