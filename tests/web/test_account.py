"""What a server does for somebody is his: runs have his name whatever the settings say, and logs name him."""

from __future__ import annotations

import io

import pytest

from tests.web.conftest import Served
from trainyard.runs.queue.changes import person
from trainyard.settings.user import user_name
from trainyard.web import work
from trainyard.web.rest.people import as_account


def test_the_account_wins_over_every_other_name(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    envs: list[dict[str, str]] = []
    monkeypatch.setenv("TRAINYARD_USER", "root")

    def start(_words: object, *, env: dict[str, str], **_: object) -> io.BytesIO:
        envs.append(env)
        return io.BytesIO()

    monkeypatch.setattr(work, "start_apart", start)
    served.account("ann")
    served.client(served.token("ann")).post("/api/v1/runs/ann/a/cancel")
    assert user_name(envs[0], "the-setting") == "ann"
    assert person(as_account(served.site, "ann")) == "ann"
