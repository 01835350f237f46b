"""Each path of the server, pages and REST alike, with each scope: exactly what is allowed, and nothing without a token."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.web.conftest import Served
from trainyard.ledger.accounts import SCOPES, Scope
from trainyard.web import work
from trainyard.web.application import API, create_application
from trainyard.web.guard import flood
from trainyard.web.reports import VerbReports

READ = """
    GET /api/v1/runs  GET /api/v1/runs/{user}/{label}  GET /api/v1/runs/{user}/{label}/{attempt}
    GET /api/v1/runs/{user}/{label}/{attempt}/log  GET /api/v1/runs/{user}/{label}/{attempt}/page
    GET /api/v1/operations  GET /api/v1/operations/{id}  GET /api/v1/workers  GET /workers
    GET /api/v1/duties  GET /api/v1/me  GET /api/v1/tokens
    POST /api/v1/tokens  DELETE /api/v1/tokens/{id}  GET /api/v1/queue  GET /api/v1/queue/plan  GET /api/v1/costs
    GET /api/v1/offers  GET /api/v1/clouds  GET /api/v1/stacks  GET /api/v1/stacks/{stack}/account
    GET /api/v1/stacks/{stack}/results  GET /api/v1/compare  GET /api/v1/audit  GET /api/v1/audit/verify
    GET /  GET /runs/{user}/{label}  GET /runs/{user}/{label}/{attempt}  GET /runs/{user}/{label}/{attempt}/train.log
    GET /runs/{user}/{label}/{attempt}/files/{name:path}  GET /compare  GET /queue  GET /operations  GET /operations/{id}
    GET /costs  GET /offers  GET /account  GET /stacks  GET /stacks/{stack}  GET /start  GET /start/{recipe}  GET /plans/{id}
    GET /live/runs/{user}/{label}/{attempt}  GET /api/v1/runs/{user}/{label}/{attempt}/follow  GET /api/v1/events  POST /logout
    GET /api/v1/runs/{user}/{label}/{attempt}/metrics  GET /api/v1/runs/{user}/{label}/{attempt}/files
    GET /api/v1/runs/{user}/{label}/{attempt}/files/{name:path}  GET /api/v1/costs/days  GET /api/v1/limits
    GET /api/v1/recipes  GET /api/v1/recipes/{recipe}  GET /api/v1/stacks/{stack}
"""
RUN = """
    POST /api/v1/runs  POST /api/v1/runs/{user}/{label}/cancel  POST /api/v1/runs/{user}/{label}/resume
    POST /api/v1/runs/{user}/{label}/rerun  POST /api/v1/runs/{user}/{label}/extend  POST /api/v1/runs/{user}/{label}/deliver
    POST /api/v1/runs/{user}/{label}/remove  POST /api/v1/runs/{user}/{label}/hold  POST /api/v1/runs/{user}/{label}/release
    POST /api/v1/runs/{user}/{label}/prefer
    POST /start/{recipe}  POST /plans/{id}  POST /api/v1/stacks/{stack}/preview  POST /api/v1/stacks/{stack}/refresh
    GET /runs/{user}/{label}/{attempt}/do/{action}  POST /runs/{user}/{label}/{attempt}/do/{action}
"""
APPROVE = """
    POST /api/v1/runs/{user}/{label}/approve  POST /api/v1/runs/{user}/{label}/reject
    GET /queue/{user}/{label}/do/{action}  POST /queue/{user}/{label}/do/{action}
"""
ADMIN = """
    GET /api/v1/accounts  POST /api/v1/accounts  PATCH /api/v1/accounts/{name}  PUT /api/v1/teams/{name}
    GET /pods/{stack}/{pod}/end  POST /pods/{stack}/{pod}/end
    POST /api/v1/stacks/{stack}/up  POST /api/v1/stacks/{stack}/destroy  POST /api/v1/pods/{stack}/{pod}/end
    GET /stacks/{stack}/do/{action}  POST /stacks/{stack}/do/{action}
"""
OPEN = ("GET /healthz", "GET /readyz", "GET /login", "POST /login", "GET /metrics")
"""What anybody may ask; the figures from this machine alone (test_health)."""
ENDLESS = f"{API}/events"
ACTIONS = {"/runs/": "cancel", "/queue/": "approve", "/stacks/": "up"}
VALUES = {
    "{user}": "ann", "{label}": "none", "{attempt}": "1", "{stack}": "local", "{pod}": "p1", "{recipe}": "lora", "{name}": "bob",
    "{name:path}": "model.bin", "{id}": "0" * 32,
}  # fmt: skip


def asked(text: str) -> list[tuple[str, str]]:
    words = text.split()
    return list(zip(words[::2], words[1::2], strict=True))


NEEDED: dict[tuple[str, str], Scope] = {
    pair: scope for scope, text in zip(SCOPES, (READ, RUN, APPROVE, ADMIN), strict=True) for pair in asked(text)
}  # fmt: skip


def routes(served: Served) -> Iterator[tuple[str, str]]:
    """Yield each method and path that the application has."""
    for included in create_application(served.site).routes:
        router = getattr(included, "original_router", None)
        prefix = included.include_context.prefix if router is not None else ""  # type: ignore[attr-defined]
        for route in router.routes if router is not None else ():
            # Workers' connections are no requests: test_workers asks them.
            yield from ((method, prefix + route.path) for method in getattr(route, "methods", ()))


def filled(path: str) -> str:
    for name, value in VALUES.items():
        path = path.replace(name, value[:12] if "/tokens/" in path else value)
    return path.replace("{action}", next((action for start, action in ACTIONS.items() if path.startswith(start)), ""))


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started, and nobody asks too often."""
    from limits import parse

    for name in ("ASKS", "CHANGES", "STRANGERS", "NEW"):
        monkeypatch.setattr(flood, name, parse("1000000/minute"))
    monkeypatch.setattr(work, "start_apart", lambda *_, **__: io.BytesIO())
    monkeypatch.setattr(VerbReports, "_ask", lambda *_: {"rows": []})


def test_each_path_that_there_is_stands_in_the_table(served: Served) -> None:
    opened = {(method, path) for method, _, path in (each.partition(" ") for each in OPEN)}
    assert set(routes(served)) == set(NEEDED) | opened
    assert any(path.startswith(API) for _, path in NEEDED)


def answer_of(client: TestClient, method: str, path: str, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return client.request(method, filled(path), headers=headers, follow_redirects=False).status_code


@pytest.mark.usefixtures("idle")
def test_each_scope_opens_exactly_its_paths(served: Served) -> None:
    served.account("ann")
    served.account("bob")  # may be changed
    client, wrong = served.client(), []
    for (method, path), needed in NEEDED.items():
        if answer_of(client, method, path, None) not in ((401,) if path.startswith(API) else (303,)):
            wrong.append(f"nobody: {method} {path}")
        at = SCOPES.index(needed)
        for scopes in filter(None, (SCOPES[:at], SCOPES[: at + 1] if path != ENDLESS else ())):  # the role below, and the one that may
            code = answer_of(client, method, path, served.token("ann", *scopes))
            if (code in (401, 403)) != (needed not in scopes) or code >= 500:
                wrong.append(f"{' '.join(scopes)}: {method} {path}: {code}")
    assert wrong == []


@pytest.mark.usefixtures("idle")
def test_a_viewer_changes_nothing_wherever_they_ask(served: Served) -> None:
    served.account("eve", "view")
    client = served.client()
    for method, path in NEEDED:
        if method != "GET" and path not in ("/logout", f"{API}/tokens", f"{API}/tokens/{{id}}"):
            assert answer_of(client, method, path, served.token("eve")) == 403, path
    assert served.site.operations.newest(10) == []
