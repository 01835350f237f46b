"""The SSH server of a pod where OpenSSH's cannot serve: asyncssh on the socket that the supervisor bound.

A child of the supervisor, never part of it: its memory and its import time are not the supervisor's. Descriptor 0
is the listening socket; the arguments name the folder that holds asyncssh and the one with ``host_key`` and
``authorized_keys``; its environment is the environment of every session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import Any

# The supervisor's creator says where it found asyncssh: a search path from its environment is not ours.
sys.path.insert(0, sys.argv[1])

import asyncssh

CHUNK = 128 * 1024


class LoopbackServer(asyncssh.SSHServer):
    """Key-only login under any name; forwards what a real sshd would."""

    def begin_auth(self, username: str) -> bool:
        """Everybody must show a key."""
        return True

    def connection_requested(self, *_: Any) -> bool:
        """Allow ``ssh -L``."""
        return True

    def server_requested(self, *_: Any) -> bool:
        """Allow ``ssh -R``."""
        return True


async def serve(folder: str) -> None:
    """Accept connections for ever."""
    listener = socket.socket(fileno=0)
    listener.setblocking(False)
    keys = f"{folder}/authorized_keys"
    # asyncssh refuses a file without a key; a pod without one has a door that lets nobody in.
    await asyncssh.listen(
        sock=listener,
        server_factory=LoopbackServer,
        process_factory=_session,
        sftp_factory=True,
        server_host_keys=[f"{folder}/host_key"],
        authorized_client_keys=keys if os.path.getsize(keys) > 1 else None,
        encoding=None,
        keepalive_interval=30,
        agent_forwarding=False,
        login_timeout=60,
    )
    await asyncio.get_running_loop().create_future()


async def _session(process: Any) -> None:
    shell = os.environ.get("SHELL", "/bin/sh")
    argv = [shell, "-c", process.command] if process.command is not None else [shell, "-l"]
    env = dict(os.environ)
    peer, here = process.get_extra_info("peername"), process.get_extra_info("sockname")
    if peer and here:
        env["SSH_CLIENT"] = f"{peer[0]} {peer[1]} {here[1]}"
        env["SSH_CONNECTION"] = f"{peer[0]} {peer[1]} {here[0]} {here[1]}"
    try:
        if process.term_type is not None:
            env["TERM"] = process.term_type
            await _with_terminal(process, argv, env)
        else:
            await _with_pipes(process, argv, env)
    except OSError as error:
        process.stderr.write(f"{argv[0]}: {error.strerror}\n".encode())
        process.exit(127)


async def _with_pipes(process: Any, argv: list[str], env: dict[str, str]) -> None:
    child = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        start_new_session=True,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdin and child.stdout and child.stderr
    feed = asyncio.create_task(_feed(process, child.stdin))
    # asyncssh's own redirect lost the end of a large download: two pumps that wait for the channel.
    try:
        await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
        _leave(process, await child.wait())
    except (BrokenPipeError, ConnectionError, asyncssh.Error):
        return  # The link is gone; what the session started lives on, as under sshd.
    finally:
        feed.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feed


async def _with_terminal(process: Any, argv: list[str], env: dict[str, str]) -> None:
    master, slave = os.openpty()
    process_size = process.term_size
    _resize(master, process_size)
    os.set_blocking(master, False)
    take = [sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, *argv]
    child = await asyncio.create_subprocess_exec(*take, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    loop = asyncio.get_running_loop()
    output = asyncio.StreamReader(loop=loop)
    read_file, write_file = os.fdopen(os.dup(master), "rb", 0), os.fdopen(master, "wb", 0)
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output, loop=loop), read_file)
    writing, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, write_file)
    typed = asyncio.StreamWriter(writing, protocol, None, loop)
    feed = asyncio.create_task(_feed(process, typed, master))
    try:
        with contextlib.suppress(OSError):  # EIO: the last holder of the terminal is gone
            await _pump(output, process.stdout)
        _leave(process, await child.wait())
    except (ConnectionError, asyncssh.Error):
        child.send_signal(signal.SIGHUP)
    finally:
        feed.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feed
        reading.close()
        writing.close()


_TAKE_TERMINAL = "import fcntl,os,sys,termios;fcntl.ioctl(0,termios.TIOCSCTTY,0);os.execvp(sys.argv[1],sys.argv[1:])"


async def _pump(source: asyncio.StreamReader, target: Any) -> None:
    while data := await source.read(CHUNK):
        target.write(data)
        await target.drain()


async def _feed(process: Any, target: asyncio.StreamWriter, terminal: int | None = None) -> None:
    while True:
        try:
            data = await process.stdin.read(CHUNK)
            if not data:
                break
            target.write(data)
            await target.drain()
        except asyncssh.TerminalSizeChanged as change:
            if terminal is not None:
                _resize(terminal, change.term_size)
        except (asyncssh.SignalReceived, asyncssh.BreakReceived):
            continue  # sshd without a terminal ignores them too
        except (BrokenPipeError, ConnectionError, asyncssh.Error):
            break
    if terminal is None:
        with contextlib.suppress(OSError):
            target.close()


def _leave(process: Any, code: int) -> None:
    if code < 0:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        process.exit(code)


def _resize(terminal: int, size: tuple[int, int, int, int]) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], size[2], size[3]))


if __name__ == "__main__":
    os.chdir(os.environ["HOME"])
    # A free descriptor 0 would be taken by the next file opened, and sessions inherit it.
    os.set_inheritable(0, False)
    asyncio.run(serve(sys.argv[2]))
