"""One real Postgres for all tests of the ledger; where the machine has none, what needs it is skipped with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.postgres import serve_or_skip
from trainyard.secret import Secret


@pytest.fixture(scope="session")
def server() -> Iterator[Secret]:
    """Its URL."""
    with serve_or_skip() as url:
        yield url
