"""The program's own modules, importable as Pulumi runs them: its folder on the path."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

INFRA = Path(__file__).resolve().parents[2] / "infra"
MODULES = ("settings", "pod", "bucket", "environment")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop that Pulumi's outputs belong to."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Return a function that imports one of the program's modules afresh."""
    monkeypatch.syspath_prepend(str(INFRA))
    before = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield __import__
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(before)
