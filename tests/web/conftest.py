"""A server's application over a repository of its own, asked without a socket; its clock is the test's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from trainyard.config import places
from trainyard.ledger.accounts import SCOPES, Role, Scope, ServerAccount, TokenKind
from trainyard.runs.context import CommandContext
from trainyard.runs.ui import Ui
from trainyard.web.application import create_application
from trainyard.web.site import Site

NOON = 1_796_000_000.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Served:
    """A site, who asks it, and what time it is there."""

    site: Site
    time: float = NOON

    def account(self, name: str, role: Role = "admin") -> ServerAccount:
        account = ServerAccount(name=name, role=role, created=self.time)
        self.site.accounts.put(account)
        return account

    def token(self, name: str, *scopes: Scope, kind: TokenKind = "api", life: float = 3600.0) -> str:
        return self.site.tokens.issue(kind, name, "test", scopes or SCOPES, self.time, self.time + life)[1]

    def client(self, token: str | None = None) -> TestClient:
        client = TestClient(create_application(self.site), base_url="http://127.0.0.1", raise_server_exceptions=False)
        if token:
            client.headers["Authorization"] = f"Bearer {token}"
        return client


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    env = {"TRAINYARD_HOME": str(tmp_path / "home"), "TRAINYARD_LOCAL_ROOT": str(tmp_path / "outside"), "HOME": str(tmp_path)}
    now: list[Callable[[], float]] = []
    one = Served(Site(CommandContext(places(ROOT, env), env, Ui(json=True)), now=lambda: now[0]()))
    now.append(lambda: one.time)
    yield one
