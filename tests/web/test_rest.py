"""What REST tells of figures, recipes, environments and results; and what it has done to environments."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.web.conftest import NOON, Served
from tests.web.test_pages import begun, kept_run  # noqa: F401
from trainyard.ledger.accounts import ServerAccount
from trainyard.runs.records.parts import RunResult
from trainyard.storage.manifest import sha256
from trainyard.web.pages.runpages import folder_of

API = "/api/v1"
FIRST = f"{API}/runs/ann/first/1"


def test_curves_are_thinned_from_a_step_on_and_keep_their_lowest_and_highest(served: Served) -> None:
    served.account("ann", "view")
    kept_run(served)
    lines = [{"step": step, "loss": {700: 99.0, 800: -99.0}.get(step, step / 1000), "lr": 1.0} for step in range(1, 1500)]
    folder_of(served.site, "ann", "first", 1).metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = served.client(served.token("ann")).get(f"{FIRST}/metrics?since=100&points=20").json()
    loss = told["figures"]["loss"]
    assert (len(loss["steps"]) <= 20, loss["steps"][0], loss["steps"][-1]) == (True, 100, 1499)
    assert dict(zip(loss["steps"], loss["values"], strict=True)).items() >= {700: 99.0, 800: -99.0}.items()
    assert sorted(told["figures"]) == ["loss", "lr"]


def test_a_recipe_says_its_values_as_a_schema(served: Served) -> None:
    served.account("ann", "view")
    client = served.client(served.token("ann"))
    assert "lora" in client.get(f"{API}/recipes").json()["recipes"]
    values = client.get(f"{API}/recipes/lora").json()["values"]
    rank = values["properties"]["lora_rank"]
    assert (rank["type"], "minimum" in rank or "exclusiveMinimum" in rank) == ("integer", True)
    assert client.get(f"{API}/recipes/none").status_code == 404


def test_an_environment_is_told_from_its_state_and_changed_by_verbs(served: Served, begun: list[Sequence[str]]) -> None:  # noqa: F811
    served.account("ann")
    client = served.client(served.token("ann"))
    assert client.get(f"{API}/stacks/local").json() == {"stack": "local", "cloud": "local", "resources": [], "outputs": {}}
    for path, words in (
        ("stacks/local/preview", ("preview", "--stack=local", "--yes", "--json")),
        ("stacks/local/destroy", ("destroy", "--stack=local", "--yes", "--json")),
        ("pods/local/p1/end", ("end", "p1", "--stack=local")),
    ):
        answer = client.post(f"{API}/{path}", headers={"Idempotency-Key": path})
        again = client.post(f"{API}/{path}", headers={"Idempotency-Key": path})
        assert (answer.status_code, tuple(answer.json()["words"]), again.json()["id"]) == (202, words, answer.json()["id"])
    assert len(begun) == 3
    assert client.post(f"{API}/stacks/none/up").status_code == client.post(f"{API}/pods/none/p1/end").status_code == 404


def test_a_result_that_lies_here_is_listed_and_sent_only_as_its_manifest_says(served: Served) -> None:
    served.account("ann", "view")
    place = served.site.context.places.runs.parent / "out"
    (place / "model").mkdir(parents=True)
    (place / "model" / "weights").write_text("weights")
    (place / "secret").write_text("not of the result")
    entry = {"path": "model/weights", "size": 7, "sha256": sha256(b"weights")}
    entry |= {"crc32": "AAAAAA==", "part_size": 1 << 25, "parts": ["AAAAAA=="]}
    manifest = {"version": 2, "user": "ann", "run": "first", "attempt": 1, "files": [entry], "left_out": [], "token": ""}
    body = json.dumps(manifest).encode()
    (place / "_manifest.json").write_bytes(body)
    kept_run(served, phase="ended", ended=NOON, result=RunResult(local_path=str(place), manifest_sha256=sha256(body)))
    client = served.client(served.token("ann"))
    listed = client.get(f"{FIRST}/files").json()
    assert listed["files"] == [{"path": "model/weights", "size": 7, "sha256": sha256(b"weights")}]
    assert client.get(f"{FIRST}/files/model/weights").content == b"weights"
    for path in ("secret", "..%2fout%2fsecret", "_manifest.json"):
        assert client.get(f"{FIRST}/files/{path}").status_code == 404
    (place / "_manifest.json").write_bytes(body + b" ")
    assert client.get(f"{FIRST}/files").status_code == 404


def test_what_is_left_of_a_quota_and_what_days_have_cost_is_told(served: Served) -> None:
    served.site.accounts.put(ServerAccount(name="ann", role="view", created=served.time, month_dollars=12.5))
    client = served.client(served.token("ann"))
    quota = client.get(f"{API}/limits").json()["limits"][-1]
    assert (quota["stack"], quota["dollars"], quota["left"]) == (None, 12.5, 12.5)
    days = client.get(f"{API}/costs/days?days=7").json()["days"]
    assert (len(days), sum(day["dollars"] for day in days)) == (7, 0.0)
