"""A full disk: nothing half made, and what runs can still be listed and ended."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.clouds.local import pods
from trainyard.clouds.local import LocalCloud
from trainyard.errors import CloudRefused


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 1 MB; skipped loudly where none can be mounted."""
    if os.getuid():
        pytest.skip("a small disk can be mounted by root only: the full disk is NOT tested here")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tylc", str(tmp_path)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted, the full disk is NOT tested here: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the disk but for some bytes; return the file that does it."""
    path = folder / "ballast"
    with open(path, "ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
        size = file.tell()
    os.truncate(path, max(0, size - leave))
    return path


def test_create_on_a_full_disk_is_refused_and_leaves_nothing(cloud: LocalCloud, folder: Path) -> None:
    cloud.registry.make()
    ballast = fill(folder)
    with pytest.raises(CloudRefused, match="No space left"):
        pods.create(cloud, pods.spec())
    assert pods.leftovers(cloud) == []
    ballast.unlink()
    assert pods.answers(pods.create(cloud, pods.spec())).startswith(b"SSH-2.0")


def test_at_every_amount_of_room_a_create_gives_a_whole_pod_or_none(cloud: LocalCloud, folder: Path) -> None:
    cloud.registry.make()
    outcomes = set()
    for pages in (4, 12, 15, 18, 26):
        ballast = fill(folder, leave=4096 * pages)
        try:
            pod = pods.create(cloud, pods.spec())
        except CloudRefused as error:
            outcomes.add("refused")
            assert "No space left" in str(error), error
        else:
            outcomes.add("made")
            assert pods.listens(pod)
            cloud.terminate(pod.id)
        pods.wait_for(lambda: not pods.leftovers(cloud) and not pods.living(str(folder)), "the end of what a create had begun")
        ballast.unlink()
    assert outcomes == {"refused", "made"}


def test_a_pod_on_a_full_disk_is_listed_and_ended_and_its_end_recorded(cloud: LocalCloud, folder: Path, token: str) -> None:
    pod = pods.tortured(cloud, token)
    ballast = fill(folder)
    assert [row.id for row in cloud.list()] == [pod.id]
    cloud.terminate(pod.id)

    assert pods.living(token) == [] and pods.leftovers(cloud) == []
    assert cloud.ended(pod.id) is not None
    ballast.unlink()


def test_the_deadline_is_kept_on_a_full_disk(cloud: LocalCloud, folder: Path, token: str) -> None:
    pod = pods.tortured(cloud, token)
    cloud.change_markers(pod.id, None, datetime.now(UTC) + timedelta(seconds=1))
    ballast = fill(folder)
    pods.wait_for(lambda: not pods.living(token), "the deadline")
    pods.wait_for(lambda: cloud.list() == [] and not pods.leftovers(cloud), "the removal")
    assert cloud.get(pod.id) is None
    ballast.unlink()
