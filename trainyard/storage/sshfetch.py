"""Objects for a pod that cannot fetch them: read from here, proven, and sent over SSH."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.batches import batches
from trainyard.errors import StoreError, disk_full
from trainyard.files import sha256_of
from trainyard.remote.protocol import Transport
from trainyard.remote.tree import put_tree
from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.podtargets import PodTarget, bound_to, place_of

SCRATCH = 512 << 20
"""Bytes that lie here at a time."""
_FILES = 10_000
_BLOCK = 1 << 20


@dataclass(slots=True)
class SshFetch:
    """What came of it: the sha256 of each file by path, the bytes that travelled, the files that lay there already."""

    sha256: dict[str, str] = field(default_factory=dict)
    moved: int = 0
    kept: int = 0


def over_ssh(
    settings: StoreSettings | None, transport: Transport, folder: str, targets: Sequence[PodTarget], tally: Callable[[int, str], None]
) -> SshFetch:
    """Return when every target lies below ``folder``; raises StoreError as fetch_to_pod() does, DiskFull for this machine's disk."""
    sent, done = SshFetch(), 0
    for some in batches(targets, _FILES, SCRATCH):
        with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
            try:
                for target in some:
                    sent.sha256[target.path] = _read_here(settings, target, Path(scratch) / target.path)
            except OSError as error:
                raise disk_full(error, Path(scratch)) or StoreError(f"{scratch}: {error.strerror or error}") from None
            before = done
            changed = set(
                put_tree(
                    transport, Path(scratch), folder,
                    on_progress=lambda n, _, before=before: tally(before + n, "sending over SSH"),  # type: ignore[misc]
                )
            )  # fmt: skip
        sent.moved += sum(target.size for target in some if target.path in changed)
        sent.kept += len(some) - len(changed)
        done += sum(target.size for target in some)
        tally(done, "sending over SSH")
    return sent


def _read_here(settings: StoreSettings | None, target: PodTarget, path: Path) -> str:
    if settings is None:
        raise StoreError(f"{place_of(settings, target)}: the pod cannot reach it", hint="Download it, and name the file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for extent in target.extents:
            bound = bound_to(settings, extent.source) | {"Range": f"bytes={extent.offset}-{extent.offset + extent.length - 1}"}
            what = f"read {settings.url}/{extent.source.key}"
            with store_errors(what), s3(settings).get_object(**bound)["Body"] as body:
                while block := body.read(_BLOCK):
                    file.write(block)
    path.chmod(0o755 if target.executable else 0o644)
    digest = sha256_of(path)
    if digest != (target.sha256 or digest) or path.stat().st_size != target.size:
        raise StoreError(f"{target.path}, from {place_of(settings, target)}: it is not what was announced, its sha256 is {digest}")
    return digest
