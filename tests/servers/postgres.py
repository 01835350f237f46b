"""A real Postgres for the tests of the ledger: the machine's own programs, else Debian's packages, unpacked and not installed."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.servers.common import STARTS_WITHIN, Unavailable, cache, child, run, unpack
from trainyard.secret import Secret

_NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
"""Postgres does not start as root: root is somebody else for it, and files stay root's outside."""
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "jit=off", "max_connections=40")


def find() -> Path:
    """Return the folder of its programs; raises Unavailable when there is none."""
    for root in (Path("/"), cache() / "postgres"):
        for initdb in sorted(root.glob("usr/lib/postgresql/*/bin/initdb"), reverse=True):
            if os.access(initdb.with_name("postgres"), os.X_OK):
                return initdb.parent
    raise Unavailable("there is no Postgres on this machine: invoke servers.postgres")


def obtain() -> Path:
    """Return that folder, filled from Debian's archive where there is none: 20 to 60 MB, once per user; needs apt and dpkg."""
    with contextlib.suppress(Unavailable):
        return find()
    unpack("postgres", "Postgres", ("postgresql",))
    return find()


@contextlib.contextmanager
def serve() -> Iterator[Secret]:
    """Serve an empty database on a socket of its own while the block lasts, and return its URL; ready within a second."""
    programs = find()
    with tempfile.TemporaryDirectory(prefix="tp", dir="/tmp") as text:  # a socket's path may have 107 characters
        folder, env = Path(text), _env(programs)
        run([*_as(), programs / "initdb", "-D", folder / "data", "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8"], env)
        options = [word for one in _QUICK for word in ("-c", one)]
        log = folder / "log"
        with child([*_as(), programs / "postgres", "-D", folder / "data", "-k", folder, *options], log, env) as server:
            _wait(programs, folder, server, log, env)
            try:
                yield Secret(f"postgresql://tester@/postgres?host={folder}")
            finally:
                _disconnect()


@contextlib.contextmanager
def serve_or_skip() -> Iterator[Secret]:
    """Like serve(); skips the test, with the reason, where this machine has no Postgres or cannot start it."""
    try:
        find()
        if os.geteuid() == 0 and (shutil.which("unshare") is None or subprocess.run([*_NOBODY, "true"], check=False).returncode):
            raise Unavailable("Postgres does not start as root, and this root may make no user namespace")
    except Unavailable as why:
        pytest.skip(str(why))
    with serve() as url:
        yield url


def _disconnect() -> None:
    """Close the connections that this process keeps: the server waits for them."""
    for engine in [one for one in gc.get_objects() if isinstance(one, sa.Engine)]:
        engine.dispose()


def _as() -> Sequence[str]:
    return _NOBODY if os.geteuid() == 0 else ()


def _env(programs: Path) -> Mapping[str, str]:
    """Return the environment in which the loader finds what was unpacked beside the programs."""
    libraries = [str(path) for path in (programs.parents[4] / "usr/lib").glob("*-linux-gnu*")]
    own = {"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if programs.parents[4] != Path("/") else {}
    return {**os.environ, "LC_ALL": "C", **own}


def _wait(programs: Path, folder: Path, server: subprocess.Popen[bytes], log: Path, env: Mapping[str, str]) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while server.poll() is None and time.monotonic() < until:
        if subprocess.run([programs / "pg_isready", "-q", "-h", folder], env=dict(env), check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise Unavailable(f"it did not start: {log.read_text(errors='replace')[-2000:]}")
