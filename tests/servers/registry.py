"""A registry of container images: CNCF's distribution, which Docker Hub and many others run. Built for tests, never shipped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.servers.common import Unavailable, built_by_go, cache, child, free_port, wait_for_answer

VERSION = "v3.1.2"
MODULE = "github.com/distribution/distribution/v3/cmd/registry"
BUILD_SECONDS = 1800.0
_SETTINGS = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error, accesslog: {{disabled: true}}}}
"""


def find() -> Path:
    """Return the program; raises Unavailable when it was not built yet."""
    path = cache() / f"registry-{VERSION}" / "registry"
    if not os.access(path, os.X_OK):
        raise Unavailable("no registry of images is built on this machine: invoke servers.registry")
    return path


def obtain() -> Path:
    """Return the program, built by Go from the module proxy where it is not there: 2 minutes, 80 MB, once per user."""
    return built_by_go("registry", MODULE, VERSION, BUILD_SECONDS)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder while the block lasts; yield the registry's name, a loopback address with its port."""
    port, log, settings = free_port(), folder / "registry.log", folder / "registry.yml"
    settings.write_text(_SETTINGS.format(folder=folder, port=port))
    with child([find(), "serve", settings], log, dict(os.environ)) as process:
        wait_for_answer(f"http://127.0.0.1:{port}/v2/", process, log)
        yield f"127.0.0.1:{port}"
