"""A real Slurm of one node for the tests: the machine's own programs, else Debian's packages, unpacked and not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.common import Unavailable, cache, unpack
from trainyard.rehearsal.slurm import cluster

PACKAGES = ("slurm-wlm", "munge")


def find() -> Path:
    """Return the folder below which its programs lie; raises Unavailable when some are missing."""
    root = cluster.programs()
    if not (missing := cluster.lacking(root)):
        return root
    raise Unavailable(f"there is no Slurm on this machine ({', '.join(missing)} missing): invoke servers.slurm")


def obtain() -> Path:
    """Return that folder, filled from Debian's archive where there is none: some 20 MB, once per user; needs apt and dpkg."""
    with contextlib.suppress(Unavailable):
        return find()
    if not (cache() / "slurm").is_dir():
        unpack("slurm", "Slurm", PACKAGES)
    for program in (cache() / "slurm" / "usr" / "sbin").glob("*-wlm"):  # installed, Debian's alternatives give them their names
        name = program.with_name(program.name.removesuffix("-wlm"))
        if not name.exists():
            name.symlink_to(program.name)
    return find()


@contextlib.contextmanager
def serve(folder: Path, size: cluster.ClusterSize | None = None) -> Iterator[cluster.SlurmCluster]:
    """Run a cluster while the block lasts."""
    with cluster.serve(folder, size, find()) as running:
        yield running


@contextlib.contextmanager
def serve_or_skip(folder: Path, size: cluster.ClusterSize | None = None) -> Iterator[cluster.SlurmCluster]:
    """Run a cluster while the block lasts; skips the test, with the reason, where this machine has no Slurm."""
    try:
        root = find()
    except Unavailable as why:
        pytest.skip(str(why))
    with cluster.serve(folder, size, root) as running:
        yield running
