"""Whatever a program sends that knows the schema alone: no fault of the server's, and answers are as the schema says."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.conftest import SEED
from tests.web.conftest import Served
from trainyard.web import work
from trainyard.web.reports import VerbReports

EXAMPLES = 12


@pytest.fixture
def schema(served: Served, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a server of which no process is started."""
    schemathesis = pytest.importorskip("schemathesis")
    from limits import parse

    from trainyard.web.application import create_application
    from trainyard.web.guard import flood

    for name in ("ASKS", "CHANGES", "STRANGERS"):
        monkeypatch.setattr(flood, name, parse("1000000/minute"))
    monkeypatch.setattr(work, "start_apart", lambda *_, **__: io.BytesIO())
    monkeypatch.setattr(VerbReports, "_ask", lambda *_: {"rows": []})
    for name in ("ann", "bob"):  # one may disable the other, and the last admin stays one
        served.account(name)
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", create_application(served.site))


@pytest.mark.extras("schemathesis")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestWarning")
def test_no_request_makes_a_fault_and_each_answer_is_as_the_schema_says(served: Served, schema: Any) -> None:
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    headers = {"Authorization": f"Bearer {served.token('ann')}"}
    asked = set()
    for each in schema.get_all_operations():
        operation = each.ok()
        if "/tokens/" in operation.path or operation.path.endswith("accounts/{name}"):
            continue  # it would revoke what it asks with

        @seed(SEED)
        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(case=operation.as_strategy())
        def ask(case: Any, label: str = operation.label) -> None:
            answer = case.call(headers=headers)
            asked.add((label, answer.status_code))
            case.validate_response(
                answer,
                checks=[
                    not_a_server_error,
                    checks.status_code_conformance,
                    checks.content_type_conformance,
                    checks.response_schema_conformance,
                    checks.response_headers_conformance,
                ],
            )

        ask()
    assert len({label for label, _ in asked}) > 30
    assert {code for _, code in asked} >= {200, 201, 202, 404, 422}
