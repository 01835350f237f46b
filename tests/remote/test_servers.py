"""Servers with manners of their own: Dropbear ends the connection for a line of more than 9000 bytes; one grants no session."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.remote import sshd
from trainyard.remote import ssh
from trainyard.remote.fed import fed
from trainyard.remote.local import LocalTransport
from trainyard.remote.protocol import NotSent
from trainyard.remote.transport import connect


def test_a_command_that_dropbear_takes_for_too_long_runs_with_its_input_and_its_exit_code(tmp_path: Path) -> None:
    server = sshd.start(tmp_path, manner="dropbear")
    try:
        with connect(server.address) as t:
            long = f": {'é' * 5_000}\ncat\nexit 3\n"
            for stdin in (None, b"bytes\n" * 10_000, io.BytesIO(b"read\n" * 10_000)):
                result = t.exec(long, stdin)
                assert (result.rc, result.stderr) == (3, b"")
                assert result.stdout == (b"" if stdin is None else stdin if isinstance(stdin, bytes) else stdin.getvalue())
            assert t.exec("echo the same link lives").rc == 0
    finally:
        server.stop()


@pytest.mark.parametrize("lost", [1, 30])
def test_half_a_command_is_never_run(tmp_path: Path, lost: int) -> None:
    line, stdin = fed(f"touch {tmp_path}/half\n# and the rest", None)
    assert isinstance(stdin, bytes)
    assert LocalTransport().exec(line, stdin[:-lost]).rc == 255
    assert not list(tmp_path.iterdir())


def test_a_server_that_grants_no_session_at_all_is_given_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "REFUSED_AT_FIRST", 0.05)
    server = sshd.start(tmp_path, manner="refusing")
    try:
        with connect(server.address) as t, pytest.raises(NotSent, match="refuses every session"):
            t.exec("true")
    finally:
        server.stop()
