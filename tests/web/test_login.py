"""Who may do what: tokens, sessions, links, scopes; and what no other site may do in somebody's session."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest

from tests.web.conftest import Served
from trainyard.ledger.accounts import ROLES, Role
from trainyard.web import work
from trainyard.web.guard.principal import SESSION

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_nobody_is_told_anything_without_a_token(served: Served) -> None:
    client = served.client()
    for path in ("/api/v1/runs", "/api/v1/operations", "/api/v1/runs/ann/first/1/log"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    page = client.get("/", follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("broken", ["", "Bearer", "Bearer ty_0_0", "Bearer x", "Basic YTpi", "Bearer ty_{id}_wrong", "Bearer ty_{id}_"])
def test_what_is_no_token_proves_nobody(served: Served, broken: str) -> None:
    served.account("ann")
    token_id = served.token("ann").split("_")[1]
    answer = served.client().get("/api/v1/runs", headers={"Authorization": broken.format(id=token_id)})
    assert answer.status_code == 401


def test_a_token_ends_with_its_time_its_revocation_or_its_account(served: Served) -> None:
    account, text = served.account("ann"), served.token("ann")
    client = served.client(text)
    assert client.get("/api/v1/runs").status_code == 200

    served.time += 3600.0
    assert client.get("/api/v1/runs").status_code == 401

    served.time -= 1.0
    served.site.accounts.put(dataclasses.replace(account, disabled=served.time))
    assert client.get("/api/v1/runs").status_code == 401

    served.site.accounts.put(account)
    assert client.get("/api/v1/runs").status_code == 200
    assert served.site.tokens.revoke(text.split("_")[1], served.time)
    assert client.get("/api/v1/runs").status_code == 401


@pytest.mark.parametrize("role", ROLES)
def test_a_token_allows_no_more_than_the_role_of_its_account_does_now(served: Served, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "start_apart", lambda *_, **__: io.BytesIO())
    served.account("ann", role)
    answer = served.client(served.token("ann")).post("/api/v1/runs/ann/none/cancel", json={})
    assert answer.status_code == (403 if role == "view" else 202)


def test_no_secret_of_a_token_is_in_the_ledger(served: Served) -> None:
    served.account("ann")
    secret = served.token("ann").split("_", 2)[2]
    path = served.site.ledger.database.path
    assert path is not None
    assert all(secret.encode() not in file.read_bytes() for file in path.parent.glob("ledger.db*"))


def test_a_link_logs_in_once_and_its_session_ends_when_it_is_not_used(served: Served) -> None:
    served.account("ann")
    link, client = served.token("ann", kind="link"), served.client()
    assert client.post("/login", data={"token": link}, follow_redirects=False).status_code == 303
    assert client.get("/").status_code == 200
    assert served.client().post("/login", data={"token": link}).status_code == 401

    served.time += SESSION - 1
    assert client.get("/").status_code == 200
    served.time += SESSION - 1
    assert client.get("/").status_code == 200
    served.time += SESSION + 1
    assert client.get("/", follow_redirects=False).status_code == 303


def test_a_session_is_no_token_and_a_link_is_no_session(served: Served) -> None:
    served.account("ann")
    session, link = served.token("ann", kind="session"), served.token("ann", kind="link")
    assert served.client(session).get("/api/v1/runs").status_code == 401
    assert served.client(link).get("/api/v1/runs").status_code == 401
    assert served.client().get("/", headers={"Cookie": f"trainyard={link}"}, follow_redirects=False).status_code == 303


def test_no_other_site_can_act_in_a_session(served: Served) -> None:
    served.account("ann")
    client = served.client()
    client.post("/login", data={"token": served.token("ann", kind="link")})
    csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', client.get("/").text)
    assert csrf is not None

    assert client.post("/logout").status_code == 403
    assert client.post("/logout", data={"csrf": "0" * 64}).status_code == 403
    assert client.post("/logout", data={"csrf": csrf[1]}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/api/v1/runs/ann/none/cancel", json={}).status_code == 403

    assert client.post("/logout", data={"csrf": csrf[1]}, follow_redirects=False).status_code == 303
    assert client.get("/", follow_redirects=False).status_code == 303


def test_an_answer_says_what_a_page_may_load_and_that_nobody_keeps_it(served: Served) -> None:
    answer = served.client().get("/login")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert (answer.headers["cache-control"], answer.headers["x-frame-options"]) == ("no-store", "DENY")
    assert not re.search(r"<script(?! src=)|<style| style=| on[a-z]+=", answer.text)


def test_a_body_that_is_too_long_is_refused_before_it_is_read(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    assert client.post("/api/v1/runs/ann/none/cancel", content=b"{" + b" " * 10_000_000).status_code == 413
    assert client.post("/login", content=(b"a" * 65536 for _ in range(160)), headers=FORM).status_code == 413
