"""Whatever a program sends that knows the schema alone: no fault of the server's, and answers are as the schema says."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.conftest import SEED
from tests.web.conftest import Served
from trainyard.web import work
from trainyard.web.live import following
from trainyard.web.reports import VerbReports

EXAMPLES = 12


@pytest.fixture
def schema(served: Served, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a server of which no process is started."""
    schemathesis = pytest.importorskip("schemathesis")
    from limits import parse

    from trainyard.web.application import create_application
    from trainyard.web.guard import flood

    for name in ("ASKS", "CHANGES", "STRANGERS", "NEW"):
        monkeypatch.setattr(flood, name, parse("1000000/minute"))
    monkeypatch.setattr(work, "start_apart", lambda *_, **__: io.BytesIO())
    monkeypatch.setattr(following, "LONGEST", 0.01)
    monkeypatch.setattr(VerbReports, "_ask", lambda *_: {"rows": []})
    for name in ("ann", "bob"):  # one may disable the other, and the last admin stays one
        served.account(name)
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", create_application(served.site), headers={"Host": "127.0.0.1"})


def ask_all(operation: Any, headers: dict[str, str], asked: set[tuple[str, int]]) -> None:
    """Ask one operation with what its schema allows, and hold each answer against that."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    held = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.response_headers_conformance,
    ]

    @seed(SEED)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        answer = case.call(headers={**headers, "Host": "127.0.0.1"})
        asked.add((operation.label, answer.status_code))
        case.validate_response(answer, checks=held)

    ask()


@pytest.mark.extras("schemathesis")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestWarning")
def test_no_request_makes_a_fault_and_each_answer_is_as_the_schema_says(served: Served, schema: Any) -> None:
    headers, asked = {"Authorization": f"Bearer {served.token('ann')}"}, set[tuple[str, int]]()
    for each in schema.get_all_operations():
        operation = each.ok()
        if "/tokens/" not in operation.path and not operation.path.endswith("accounts/{name}"):  # these revoke what asks
            ask_all(operation, headers, asked)
    assert len({label for label, _ in asked}) > 30
    assert {code for _, code in asked} >= {200, 201, 202, 404, 422}
