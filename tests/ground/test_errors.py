"""Exit codes are a promise."""

from __future__ import annotations

import errno
import os

import pytest

from trainyard import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [("UserError", 2), ("RefusedError", 3), ("CloudError", 4), ("Unreachable", 5), ("StillThere", 6), ("Detached", 11),
     ("StoreError", 7), ("Busy", 8), ("EngineError", 9)],
)  # fmt: skip
def test_each_kind_of_error_has_its_exit_code(kind: str, code: int) -> None:
    assert getattr(errors, kind).exit_code == code


def test_what_could_not_be_decided_is_no_refusal() -> None:
    assert not issubclass(errors.CloudUnknown, (errors.CloudRefused, errors.NoCapacity))


def test_a_full_disk_is_found_behind_what_it_has_become_and_a_circle_ends() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "model.bin")
    outer = errors.StoreError("the result")
    outer.__cause__, full.__context__ = full, outer
    round_ = errors.StoreError("round")
    round_.__cause__ = round_

    found = errors.disk_full(outer)
    assert found is not None and found.message.endswith("model.bin")
    assert errors.disk_full(round_) is None


def test_a_full_disk_is_named_by_what_was_written_never_by_what_was_read() -> None:
    copy = OSError(errno.ENOSPC, "No space left on device", "/code/train.py", None, "/yard/.trainyard/runs/a/train.py")
    written = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    full, quota, unknown = errors.disk_full(copy), errors.disk_full(written, "/yard/out/model.bin"), errors.disk_full(written)
    assert full and full.message == "No space left on device: /yard/.trainyard/runs/a/train.py"
    assert full.hint == "Free some space on the disk at /, then say it again; nothing that was done is lost."
    assert quota and quota.message == f"{written.strerror}: /yard/out/model.bin"
    assert unknown and unknown.message == written.strerror and str(unknown.hint).startswith("Free some space, then")


def test_of_a_line_without_end_the_part_around_the_fault_is_shown() -> None:
    text = "a" * 5000 + "!" + "b" * 5000
    shown = errors.render(errors.UserError("wrong", where=errors.Location("f", 1, 5001, text))).splitlines()

    assert len(shown[1]) < 200 and shown[1][shown[2].index("^")] == "!"
    assert errors.render(errors.UserError("wrong", where=errors.Location("f", 1, 3, "ab!"))).splitlines()[1:] == ["  ab!", "    ^"]
