"""MinIO: real lifecycle rules, STS, checksums of the whole object. Archived and AGPL-3.0: built for tests, never shipped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.servers.common import (
    ACCESS_KEY,
    SECRET_KEY,
    Unavailable,
    built_by_go,
    cache,
    child,
    free_port,
    settings_of,
    wait_for_answer,
)
from trainyard.storage.client import StoreSettings

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
MODULE = "github.com/minio/minio"
BUILD_SECONDS = 3600.0
_QUIET = {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_SCANNER_SPEED": "fastest"}


def find() -> Path:
    """Return the program; raises Unavailable when it was not built yet."""
    path = cache() / f"minio-{VERSION}" / "minio"
    if not os.access(path, os.X_OK):
        raise Unavailable("MinIO is not built on this machine: invoke servers.minio")
    return path


def obtain() -> Path:
    """Return the program, built by Go from the module proxy where it is not there: 5 minutes, 150 MB, once per user."""
    return built_by_go("minio", MODULE, VERSION, BUILD_SECONDS)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[StoreSettings]:
    """Serve a folder on a loopback port while the block lasts."""
    port, log = free_port(), folder / "minio.log"
    env = {**os.environ, **_QUIET, "MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "HOME": str(folder)}
    with child([find(), "server", "--address", f"127.0.0.1:{port}", folder / "data"], log, env) as process:
        wait_for_answer(f"http://127.0.0.1:{port}/minio/health/live", process, log)
        yield settings_of(port)
