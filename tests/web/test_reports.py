"""What takes long is asked once for all who look, is said with its time, and its errors are those of the verb."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Any

import pytest

from tests.web.conftest import Served
from trainyard.errors import CloudError, UserError
from trainyard.web.reports import VerbReports


def replies(monkeypatch: pytest.MonkeyPatch, *outputs: tuple[int, bytes, bytes]) -> list[list[str]]:
    """Let verbs say these, one after the other, and return the words of those that were asked."""
    asked, left = list[list[str]](), list(outputs)

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(words[3:])
        time.sleep(0.05)
        return subprocess.CompletedProcess(words, *left.pop(0))

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_those_who_ask_at_once_share_one_answer_and_it_is_asked_again_when_it_is_old(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replies(monkeypatch, (0, b"[1]", b""), (0, b"[2]", b""))
    reports, answers = VerbReports(served.site), list[Any]()
    threads = [threading.Thread(target=lambda: answers.append(reports.get(["offers", "--json"], 60.0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.value for answer in answers] == [[1]] * 8 and asked == [["offers", "--json"]]

    served.time += 60.0
    assert reports.get(["offers", "--json"], 60.0).as_of == served.time - 60.0
    served.time += 1.0
    assert reports.get(["offers", "--json"], 60.0).value == [2]


@pytest.mark.parametrize(("code", "kind"), [(2, UserError), (4, CloudError), (1, CloudError), (-9, CloudError)])
def test_a_verb_that_says_nothing_is_an_error_with_its_words_and_is_asked_again(
    served: Served, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    replies(monkeypatch, (code, b"", b"it went wrong"), (0, b"{}", b""))
    reports = VerbReports(served.site)
    with pytest.raises(kind, match="it went wrong"):
        reports.get(["audit", "--json"], 60.0)
    assert reports.get(["audit", "--json"], 60.0).value == {}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("queue/plan", ["queue", "--plan", "--json"]),
        ("costs?by=user&since=7d", ["costs", "--by=user", "--since=7d", "--json"]),
        ("offers?gpu=RTX 4090&vram=24", ["offers", "--gpu=RTX 4090", "--vram=24.0", "--limit=50", "--json"]),
        ("clouds", ["clouds", "--json"]),
        ("stacks/runpod/account", ["audit", "--stack=runpod", "--json"]),
        ("stacks/local/results", ["results", "--stack=local", "--json"]),
        ("runs/ann/a/2/page", ["show", "ann/a/2", "--json"]),
        ("compare?run=ann/a&run=bob/b", ["compare", "--run=ann/a", "--run=bob/b", "--json"]),
        ("audit/verify", ["audit.verify", "--json"]),
    ],
)
def test_a_path_asks_one_verb(served: Served, monkeypatch: pytest.MonkeyPatch, path: str, words: list[str]) -> None:
    asked = replies(monkeypatch, (0, b'{"x": 1}', b""))
    served.account("ann", "view")
    answer = served.client(served.token("ann")).get(f"/api/v1/{path}")
    assert (answer.status_code, answer.json()) == (200, {"as_of": served.time, "value": {"x": 1}})
    assert asked == [words]


@pytest.mark.parametrize(
    "path",
    [
        *("costs?by=--json", "costs?since=--x y", "offers?gpu=--spot", "stacks/--yes/account"),
        *("compare?run=--png=/x", "compare", "runs/a/b/0/page"),
    ],
)
def test_nothing_that_comes_in_is_an_option(served: Served, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    asked = replies(monkeypatch)
    served.account("ann", "view")
    assert served.client(served.token("ann")).get(f"/api/v1/{path}").status_code == 422
    assert asked == []


def test_queue_stacks_and_audit_log_are_read_here(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    client.put("/api/v1/teams/blue", json={})
    assert client.get("/api/v1/queue").json() == {"entries": []}
    assert client.get("/api/v1/stacks").json()["local"] == "local"
    rows = client.get("/api/v1/audit?action=set team").json()["rows"]
    assert [(row["actor"], row["subject"]) for row in rows] == [("ann", "blue")]
