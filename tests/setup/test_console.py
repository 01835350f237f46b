"""Commands that take long say so, end at their limit with all their children, and their failures have a name."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.setup.console import FAILED, NO_NETWORK, NO_SPACE, WRONG_MACHINE, CommandEnd, failure, os_failure, run


def test_a_command_that_takes_long_says_how_long_it_has_taken() -> None:
    lines: list[str] = []

    done = run(["sh", "-c", "sleep 0.5; echo made"], "making it", on_line=lines.append, every=0.1)

    assert done == CommandEnd(0, "made\n")
    assert len(lines) >= 2
    assert all(line.startswith("  making it: ") for line in lines)


def test_a_quick_command_says_nothing() -> None:
    lines: list[str] = []

    assert run(["sh", "-c", "echo a >&2; exit 3"], "it", on_line=lines.append) == CommandEnd(3, "a\n")
    assert lines == []


def test_at_the_time_limit_the_command_and_its_children_are_ended(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    script = "(trap '' TERM; sleep 60) & sleep 60"

    done = run(["sh", "-c", script], "it", on_line=lambda line: None, limit=0.3, keep=[writing])

    os.close(writing)
    assert done.rc is None
    # The pipe reads its end only when the last holder of its other side is gone.
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""


def test_a_command_reads_nothing_from_the_terminal() -> None:
    assert run(["sh", "-c", "cat; echo end"], "it").output == "end\n"


def test_a_lock_that_is_handed_on_is_held_until_the_last_writer_is_gone(tmp_path: Path) -> None:
    """A bootstrap that is killed frees its lock only when what it started has ended too."""
    program = """
import fcntl, os, sys
from trainyard.setup.console import run
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
run(["sh", "-c", "echo $$; echo started > " + sys.argv[1] + ".started; exec sleep 60"], "it", keep=[fd])
"""
    lock = tmp_path / "lock"
    os.mkfifo(tmp_path / "lock.started")
    holder = subprocess.Popen([sys.executable, "-c", program, str(lock)])
    (tmp_path / "lock.started").read_text()
    holder.kill()
    holder.wait()

    with lock.open("r+") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _end_holders(lock)
        fcntl.flock(file, fcntl.LOCK_EX)


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("error: failed to write /x: No space left on device (os error 28)", NO_SPACE),
        ("OSError: [Errno 122] Disk quota exceeded", NO_SPACE),
        ("go: dial tcp: lookup proxy on 127.0.0.53:53: no such host", NO_NETWORK),
        ("NewConnectionError: [Errno -3] Temporary failure in name resolution\nERROR: No matching distribution found for uv", NO_NETWORK),
        ("error sending request for url\n  Caused by: dns error", NO_NETWORK),
        ("Err:1 http://archive Temporary failure resolving 'archive'", NO_NETWORK),
        ("error: HTTP status client error (403 Forbidden)", FAILED),
        ("error: hash mismatch for uv", FAILED),
    ],
)
def test_a_failure_tells_a_full_disk_and_a_missing_network_from_the_rest(output: str, code: int) -> None:
    error = failure(CommandEnd(2, output), "cannot do it", network="check it", space="free it")

    assert error.exit_code == code
    assert error.hint == {NO_SPACE: "free it", NO_NETWORK: "check it", FAILED: None}[code]
    assert "cannot do it" in error.message


def test_the_network_s_failure_shows_the_line_with_the_cause() -> None:
    text = "Looking\nWARNING: Connection refused by 10.0.0.1\nERROR: No matching distribution"

    error = failure(CommandEnd(1, text), "cannot do it", network="", space="")

    assert error.message == "cannot do it: the network cannot be reached\n  WARNING: Connection refused by 10.0.0.1"


def test_a_full_disk_under_our_own_hands_is_told_like_that_of_a_command() -> None:
    assert os_failure(OSError(28, "No space left on device", "/x"), "w", space="s").exit_code == NO_SPACE
    refused = os_failure(PermissionError(13, "Permission denied", "/x/y"), "cannot write", space="s")
    assert (refused.exit_code, refused.message) == (WRONG_MACHINE, "cannot write: /x/y: Permission denied")


def _end_holders(lock: Path) -> None:
    """End the process that still has the lock file open: the child of the killed holder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                links = [os.readlink(link) for link in (entry / "fd").iterdir()]
            except OSError:
                continue
            if str(lock) in links:
                os.kill(int(entry.name), 9)
