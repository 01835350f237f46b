"""Attacks: what comes in as a name, a host, a header, a body or a label does nothing but what it may, and tokens are told nowhere."""

from __future__ import annotations

import re
from typing import Any

import pytest
import structlog
from limits import parse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.web.conftest import NOON, Served
from trainyard.ledger.operations import ServerOperation
from trainyard.web.application import create_application
from trainyard.web.guard import flood
from trainyard.web.guard.requestlog import set_up_logging
from trainyard.web.site import Site

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
PLACES = (
    "/static/..%2f..%2fsite.py", "/static/%2e%2e/render.py", "/static/%00", "/static//etc/passwd", "/static/" + "a" * 4000,
    "/runs/ann/first/1/files/..%2f..%2f..%2fledger.db", "/runs/ann/first/1/files//etc/passwd", "/runs/ann/first/1/files/a%00b",
    "/runs/ann/first/1/files/" + "a" * 900, "/runs/ann/..%2f../1/train.log", "/runs/..%2fann/first/1", "/stacks/..%2f..",
    "/stacks/--help", "/start/..%2f..", "/account?stack=%00", "/account?stack=--help", "/api/v1/runs/..%2f../first/1/log",
    "/api/v1/stacks/--help/account", "/api/v1/compare?run=--help", "/api/v1/runs/ann/-x/cancel", "/live/runs/..%2f/first/1",
)  # fmt: skip
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def logged_in(served: Served, **headers: str) -> Any:
    browser = served.client()
    served.account("ann")
    answer = browser.post("/login", data={"token": served.token("ann", kind="link")}, headers=headers, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    return browser


def test_a_name_leads_to_no_other_place(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    for path in PLACES:
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code in (404, 405, 422) and "root:" not in answer.text, path


def test_a_result_leads_out_of_its_folder_by_no_link(served: Served) -> None:
    served.account("ann")
    folder = served.site.context.places.runs / "ann" / "first" / "1" / "fetched"
    folder.mkdir(parents=True)
    (folder / "inner").symlink_to("/etc")
    (folder / "hosts").symlink_to("/etc/hosts")
    client = served.client(served.token("ann"))
    for name in ("inner/hosts", "hosts", "inner"):
        assert client.get(f"/runs/ann/first/1/files/{name}").status_code == 404


def test_what_a_verb_said_and_was_told_is_text_in_a_page(served: Served) -> None:
    browser = logged_in(served)
    operation = ServerOperation(
        id="a" * 32, account="ann", request="r", verb="submit", subject=EVIL, words=("submit", EVIL), created=NOON, machine=EVIL,
    )  # fmt: skip
    served.site.operations.add(operation)
    served.site.operations.change(operation.id, state="failed", ended=NOON, exit_code=2, said=EVIL, output=EVIL)
    for path in ("/operations", f"/operations/{'a' * 32}", f"/?user={EVIL}", f"/?state={EVIL}", f"/offers?gpu={EVIL}"):
        text = browser.get(path).text
        assert "<script>alert" not in text and "<img src=x" not in text
        assert "&lt;script&gt;" in text, path


def test_no_other_site_logs_a_browser_in_as_somebody(served: Served) -> None:
    served.account("ann")
    link, browser = served.token("ann", kind="link"), served.client()
    assert browser.post("/login", data={"token": link}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert not browser.cookies
    assert (
        browser.post("/login", data={"token": link}, headers={"Sec-Fetch-Site": "same-origin"}, follow_redirects=False).status_code == 303
    )


def test_a_login_takes_no_session_over_and_ends_the_old_one(served: Served) -> None:
    browser = served.client()
    browser.cookies.set("trainyard", "ty_000000000000_fixed", domain="127.0.0.1", path="/")
    served.account("ann")
    first = browser.post("/login", data={"token": served.token("ann", kind="link")}, follow_redirects=False)
    old = first.cookies["trainyard"]
    assert "fixed" not in old
    again = browser.post("/login", data={"token": served.token("ann", kind="link")}, headers={"Cookie": f"trainyard={old}"})
    assert again.status_code in (200, 303)
    assert served.client().get("/", headers={"Cookie": f"trainyard={old}"}, follow_redirects=False).status_code == 303


def test_two_tabs_share_a_session_and_its_end(served: Served) -> None:
    browser = logged_in(served)
    one, two = (re.search(r'name="csrf" value="([0-9a-f]+)"', browser.get(path).text) for path in ("/", "/queue"))
    assert one is not None and two is not None and one[1] == two[1]
    kept = dict(browser.cookies)
    assert browser.post("/logout", data={"csrf": one[1]}, follow_redirects=False).status_code == 303
    other = served.client()
    other.cookies.update(kept)
    assert other.post("/logout", data={"csrf": two[1]}, follow_redirects=False).headers["location"] == "/login"
    assert other.post("/api/v1/runs/ann/none/cancel", headers={"X-CSRF-Token": two[1]}).status_code == 401


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_all_that_was_got_with_a_token_ends_with_it(served: Served, end: str) -> None:
    served.account("ann")
    token, browser = served.token("ann", life=60.0), served.client()
    assert browser.post("/login", data={"token": token}, follow_redirects=False).status_code == 303
    made = served.client(token).post("/api/v1/tokens", json={"days": 300}).json()["token"]
    of_made = served.client(made).post("/api/v1/tokens", json={}).json()["token"]
    assert browser.get("/").status_code == 200 and served.client(of_made).get("/api/v1/me").status_code == 200

    if end == "revoked":
        served.site.tokens.revoke(token.split("_")[1], served.time)
    else:
        served.time += 61.0
    assert browser.get("/", follow_redirects=False).status_code == 303
    assert [served.client(each).get("/api/v1/me").status_code for each in (made, of_made)] == [401, 401]


def test_a_name_of_elsewhere_that_leads_here_opens_nothing(served: Served) -> None:
    client = served.client()
    for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[", "a b", "x\tx", ""):
        for path in ("/", "/login", "/metrics", "/healthz", "/queue/"):
            answer = client.get(path, headers={"Host": host}, follow_redirects=False)
            assert answer.status_code in (400, 421) and "location" not in answer.headers, host
    for host in ("127.0.0.1:8420", "localhost", "localhost:1", "[::1]:8420", "127.1.2.3"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200, host


def test_a_server_behind_tls_is_asked_by_any_name_and_its_figures_not(served: Served) -> None:
    site = Site(served.site.context, secure=True, now=served.site.now)
    client = TestClient(create_application(site), base_url="http://127.0.0.1", client=("127.0.0.1", 1), follow_redirects=False)
    assert client.get("/login", headers={"Host": "yard.example"}).status_code == 200
    assert client.get("/metrics", headers={"Host": "yard.example"}).headers["location"] == "/login"
    assert client.get("/metrics").status_code == 200
    assert client.get("/queue/", headers={"Host": "yard.example"}).status_code == 404


def test_a_cookie_of_a_server_behind_tls_comes_by_tls_alone(served: Served) -> None:
    served.account("ann")
    client = TestClient(create_application(Site(served.site.context, secure=True, now=served.site.now)), base_url="https://yard.example")
    answer = client.post("/login", data={"token": served.token("ann", kind="link")}, follow_redirects=False)
    name, *flags = (part.strip().lower() for part in answer.headers["set-cookie"].split(";"))
    assert name.startswith("__host-trainyard=ty_")
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= set(flags) and not any(flag.startswith("domain") for flag in flags)
    assert "max-age" in answer.headers["strict-transport-security"]


def test_a_length_that_is_none_is_refused(served: Served) -> None:
    client = served.client()
    for length in ("9" * 5000, "99999999999", "-1", "1e9", "0x10"):
        assert client.post("/login", content=b"token=x", headers={**FORM, "Content-Length": length}).status_code == 413


def test_ten_megabytes_are_read_by_nothing(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    for path in ("/login", "/api/v1/runs", "/start/lora", "/runs/ann/none/1/do/resume"):
        assert client.post(path, content=(b"a" * 65536 for _ in range(160)), headers=FORM).status_code == 413, path


def test_a_header_carries_no_other_header(served: Served) -> None:
    browser = logged_in(served, **{"X-Request-Id": "abcdefgh1\tSet-Cookie: a=b"})
    answer = browser.get("/", headers={"X-Request-Id": "abcdefgh1%0d%0aSet-Cookie: a=b"})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"]) and "set-cookie" not in answer.headers
    lead = browser.get("/runs/ann%0d%0aSet-Cookie:%20a=b/first", follow_redirects=False)
    assert lead.status_code in (404, 422) and "set-cookie" not in lead.headers


def test_methods_that_somebody_makes_up_become_no_figures(served: Served) -> None:
    client = TestClient(create_application(served.site), base_url="http://127.0.0.1", client=("127.0.0.1", 1))
    for number in range(3):
        assert client.request(f"MADEUP{number}", "/").status_code == 405
    text = client.get("/metrics").text
    assert "MADEUP" not in text and 'method="other"' in text


def test_a_stream_needs_a_token_and_a_websocket_that_of_a_worker(served: Served) -> None:
    assert served.client().get("/live/runs/ann/first/1", follow_redirects=False).status_code == 303
    for client in (served.client(), logged_in(served), served.client(served.token("ann"))):
        for path in ("/live/runs/ann/first/1", "/api/v1/workers/link", "/api/v1/workers/stream/abc"):
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
                pass


def test_tokens_are_in_no_log_no_page_no_figure_and_not_in_the_ledger(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    try:
        browser, link, api = logged_in(served), served.token("ann", kind="link"), served.token("ann")
        session = browser.cookies["trainyard"]
        pages = [browser.get(path).text for path in ("/", "/operations", "/api/v1/me", "/api/v1/tokens", "/api/v1/audit", "/metrics")]
        pages.append(served.client().post("/login", data={"token": api + "x"}).text)
        pages.append(served.client(api).get("/api/v1/none").text)
        served.client().post("/login", data={"token": link})
    finally:
        structlog.reset_defaults()
    path = served.site.ledger.database.path
    assert path is not None
    kept = b"".join(file.read_bytes() for file in path.parent.glob("ledger.db*")).decode("latin-1")
    for place in (capsys.readouterr().err, kept, *pages):
        assert not any(text.split("_", 2)[2] in place for text in (link, api, session))


def test_ids_that_somebody_makes_up_count_as_their_address(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flood, "NEW", parse("3/minute"))
    served.account("ann")
    client, known = served.client(), {"Authorization": f"Bearer {served.token('ann')}"}
    assert client.get("/api/v1/me", headers=known).status_code == 200
    codes = [client.get("/api/v1/me", headers={"Authorization": f"Bearer ty_{number:012}_x"}).status_code for number in range(3)]
    assert codes == [401, 401, 429]
    assert client.get("/api/v1/me", headers=known).status_code == 200
