"""The SSH server of the tests where no sshd is installed: ``python asyncssh_server.py FOLDER PORT SHELL FORCED MANNER``."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import asyncssh

PIECE = 65536
MANNER = sys.argv[5]


async def run_command(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run what the client asked for, with three plain pumps."""
    folder, shell, forced = sys.argv[1], sys.argv[3] or "/bin/bash", sys.argv[4]
    wanted = process.command or "exit 1"
    if MANNER == "dropbear" and len(wanted.encode()) > 9000:
        process.get_extra_info("connection").abort()
        return
    env = {**os.environ, "HOME": folder, "SSH_CLIENT": "127.0.0.1 1 1", "SSH_ORIGINAL_COMMAND": wanted}
    env.pop("SHLVL", None)
    child = await asyncio.create_subprocess_exec(
        shell, "-c", forced or wanted, start_new_session=True, env=env,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin and child.stdout and child.stderr
    feeder = asyncio.create_task(_feed(process.stdin, child.stdin))
    pumps = asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
    over: list[asyncio.Future[Any]] = [pumps, asyncio.create_task(process.wait_closed())]
    await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
    pumps.cancel()
    for number in (1, 2):  # as sshd does when its link is lost: a child that goes on writing is ended by that
        if (pipe := child._transport.get_pipe_transport(number)) is not None:  # type: ignore[attr-defined]
            pipe.close()
    code = await child.wait()
    feeder.cancel()
    if code < 0:
        process.exit_with_signal("KILL")
    else:
        process.exit(code)


async def _feed(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(PIECE):
            sink.write(piece)
            await sink.drain()
        sink.close()
    except (OSError, asyncssh.Error):
        sink.close()


async def _pump(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    try:
        while piece := await source.read(PIECE):
            sink.write(piece)
            await sink.drain()
    except (OSError, asyncssh.Error):
        return


class Gate(asyncssh.SSHServer):
    """A server that leads on to others, as sshd does for a jump."""

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


async def main(folder: Path, port: int) -> None:
    """Serve until killed."""
    await asyncssh.listen(
        "127.0.0.1", port, server_host_keys=[str(folder / "host_key")], authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=None if MANNER == "refusing" else run_command, server_factory=Gate, encoding=None,
        server_version="dropbear_2022.83" if MANNER == "dropbear" else (),
    )  # fmt: skip
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
