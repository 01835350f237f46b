"""What somebody has the server do is a verb in a process of its own: its end, its words and who asked are known, whoever dies."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

from tests.web.conftest import Served
from trainyard.ledger.operations import ServerOperation
from trainyard.web.work import settle


def ended(served: Served, operation_id: str) -> ServerOperation:
    for _ in range(600):
        found = served.site.operations.get(operation_id)
        assert found is not None
        if found.state != "running":
            return found
        time.sleep(0.1)
    raise AssertionError("it does not end")


def test_an_operation_is_the_verb_and_ends_as_that_does(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    answer = client.post("/api/v1/runs/ann/none/cancel", json={"now": True}, headers={"X-Request-Id": "0123456789abcdef"})
    assert answer.status_code == 202
    begun = answer.json()
    assert (begun["account"], begun["words"], begun["request"]) == ("ann", ["cancel", "ann/none", "--now", "--json"], "0123456789abcdef")

    found = ended(served, begun["id"])
    assert (found.state, found.exit_code) == ("failed", 2)
    assert "there is no run 'ann/none' here" in str(found.said)
    assert client.get(f"/api/v1/operations/{begun['id']}").json()["exit_code"] == 2


def test_an_operation_whose_process_has_died_is_lost_and_no_other_is(served: Served) -> None:
    usual = ServerOperation(
        id="a" * 32, account="ann", request="r", verb="cancel", subject="ann/a", words=("cancel", "ann/a"), created=served.time,
        machine=socket.gethostname(), process="1 never/was",
    )  # fmt: skip
    served.site.operations.add(usual)
    served.site.operations.add(replace(usual, id="b" * 32, machine="elsewhere"))
    served.site.operations.add(replace(usual, id="c" * 32, process=None))

    assert settle(served.site) == 1
    served.time += 60.0
    assert settle(served.site) == 1
    assert [served.site.operations.get(name * 32).state for name in "abc"] == ["lost", "running", "lost"]  # type: ignore[union-attr]
