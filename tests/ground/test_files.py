"""Files are written whole, locks are held by one: what ends a writer half way leaves the old content."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard import filelock, files


def test_a_file_is_replaced_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for content in ("ä", b"\0\1"):
        files.write_atomic(path, content, durable=True)

    assert path.read_bytes() == b"\0\1" and os.listdir(tmp_path) == ["record"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    path = tmp_path / "record"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, refuse)
    with pytest.raises(OSError, match="No space") as told:
        files.write_atomic(path, "new", durable=True)

    assert broken == "replace" or told.value.filename == str(path), "a full disk is told by the file that was written"

    assert path.read_text() == "old" and os.listdir(tmp_path) == ["record"]


def test_durable_brings_content_and_name_to_the_disk_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")
        fsync(fd)

    def renamed(a: str, b: str) -> None:
        calls.append("rename")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)

    files.write_atomic(tmp_path / "x", "1", durable=True)
    assert calls == ["file", "rename", "folder"]

    calls.clear()
    files.write_atomic(tmp_path / "x", "2", durable=False)
    assert calls == ["rename"]


def test_a_secret_is_never_readable_by_others_not_even_its_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    replace = os.replace

    def renamed(a: str, b: str) -> None:
        seen.append(os.stat(a).st_mode & 0o777)
        replace(a, b)

    monkeypatch.setattr(os, "replace", renamed)

    files.write_atomic(tmp_path / "key", "k", durable=False, mode=0o600)

    assert seen == [0o600] and (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_file_is_made_once_and_the_second_maker_is_told(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"

    assert files.write_new(path, "first", durable=True, mode=0o600)
    assert not files.write_new(path, "second", durable=True, mode=0o600)
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["passphrase"]


def test_what_a_killed_writer_left_at_a_named_draft_is_overwritten(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.write_text("half")

    files.write_atomic(tmp_path / "x", "whole", durable=False, draft=draft)

    assert (tmp_path / "x").read_text() == "whole" and not draft.exists()


def test_a_lock_is_held_by_one_and_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"from trainyard import filelock, files; filelock.acquire(files.Path({str(path)!r})); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()
        assert filelock.acquire_now(path) is None
        waits: list[int] = []
        handle = filelock.acquire(path, on_wait=other.kill, pause=lambda: waits.append(other.wait()))
    os.close(handle)

    assert waits


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = filelock.acquire(path)

    def remove() -> None:
        path.unlink(missing_ok=True)
        os.close(first)

    second = filelock.acquire(path, pause=remove)

    assert os.path.samestat(os.fstat(second), path.stat())
    assert filelock.acquire_now(path) is None
    filelock.release(second)


def test_a_shared_lock_stands_beside_others_and_keeps_the_exclusive_one_out(tmp_path: Path) -> None:
    path = tmp_path / "stamp"
    with pytest.raises(FileNotFoundError):
        filelock.acquire(path, create=False, shared=True)
    path.touch()
    users = [filelock.acquire(path, create=False, shared=True) for _ in range(2)]

    assert filelock.acquire_now(path) is None
    for user in users:
        filelock.release(user)
    with filelock.closing(filelock.acquire(path)):
        assert filelock.acquire_now(path) is None
