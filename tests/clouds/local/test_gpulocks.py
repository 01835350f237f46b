"""The locks of a machine's GPUs: the kernel holds them, and what stands in them may be anything."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from trainyard.clouds.local import gpulocks
from trainyard.clouds.local.cloud import holder_text

LEASE = {"pod": "ty-a-b", "user": "anna", "end": 1796000400.0, "marker": 1}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gpulocks, "PLACES", ("/nowhere", str(tmp_path)))
    return tmp_path / gpulocks.NAME


def test_a_lock_lasts_as_long_as_somebody_holds_it_and_says_whose_it_is(place: Path) -> None:
    path = gpulocks.lock_path("GPU-1")
    assert gpulocks.holder(path) is None
    held = gpulocks.take(path, LEASE)
    assert gpulocks.holder(path) == LEASE
    with pytest.raises(gpulocks.GpuTaken):
        gpulocks.take(path, LEASE)
    gpulocks.clear(path, "ty-a-b")
    assert gpulocks.holder(path) == LEASE
    os.close(held)
    assert gpulocks.holder(path) is None
    gpulocks.clear(path, "another")
    assert Path(path).read_bytes() != b""
    gpulocks.clear(path, "ty-a-b")
    assert Path(path).read_bytes() == b""
    assert [stat.S_IMODE(os.stat(entry).st_mode) for entry in (place, path)] == [0o1777, 0o666]


@pytest.mark.parametrize(
    "text", [b"", b"[" * 4096, b"[1]", b"\xff", b'{"user": "\\u001b[2J", "pod": 7, "end": "soon"}', b'{"marker": 1e999}']
)
def test_what_another_user_has_written_into_a_lock_is_shown_to_nobody(text: bytes) -> None:
    path = gpulocks.lock_path("GPU-1")
    held = gpulocks.take(path, LEASE)
    Path(path).write_bytes(text)
    said = gpulocks.holder(path)
    assert said is not None and holder_text(said) == "somebody"
    os.close(held)
    assert gpulocks.holder(path) is None


def test_a_lock_that_is_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    path = gpulocks.lock_path("GPU-1")
    os.close(gpulocks.take(path, LEASE))
    os.unlink(path)
    (tmp_path / "mine").write_text("kept")
    os.symlink(tmp_path / "mine", path)
    with pytest.raises(OSError, match="symbolic links"):
        gpulocks.take(path, LEASE)
    assert (tmp_path / "mine").read_text() == "kept"
