"""Servers that only tests run against: S3 beside VersityGW (``invoke servers.minio``, ``servers.ceph``), Postgres. None is shipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from tests.servers.common import Unavailable
from trainyard.storage.client import StoreSettings


def servers() -> Mapping[str, ModuleType]:
    """Return the S3 servers by name: each has ``find``, ``obtain`` and ``serve``."""
    from tests.servers import ceph, minio

    return {"minio": minio, "ceph": ceph}


def open_server(name: str, folder: Path) -> AbstractContextManager[StoreSettings]:
    """Run a server with its data below a folder while the block lasts; raises Unavailable where this machine has none."""
    served: AbstractContextManager[StoreSettings] = servers()[name].serve(folder)
    return served


@contextmanager
def server_or_skip(name: str, folder: Path) -> Iterator[StoreSettings]:
    """Like open_server(); skips the test, with the reason, where this machine has no such server."""
    try:
        servers()[name].find()
    except Unavailable as why:
        pytest.skip(str(why))
    with open_server(name, folder) as settings:
        yield settings
