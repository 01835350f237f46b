"""The bench on which leases are tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.leases.bench import LeaseBench, new_bench


@pytest.fixture
def bench(tmp_path: Path) -> LeaseBench:
    return new_bench(tmp_path)
