"""S3 servers that only tests run against, beside VersityGW: ``invoke servers.minio``, ``invoke servers.ceph``. None is ever shipped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

from trainyard.storage.client import StoreSettings


def servers() -> Mapping[str, ModuleType]:
    """Return the servers by name: each has ``find``, ``obtain`` and ``serve``."""
    from tests.servers import ceph, minio

    return {"minio": minio, "ceph": ceph}


def open_server(name: str, folder: Path) -> AbstractContextManager[StoreSettings]:
    """Run a server with its data below a folder while the block lasts; raises Unavailable where this machine has none."""
    served: AbstractContextManager[StoreSettings] = servers()[name].serve(folder)
    return served
