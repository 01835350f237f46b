"""Verbs forked from a process that has loaded what verbs load: starting Python and loading it all is most of what many verbs cost.

``python -m tests.e2e.forkserver FD`` serves the orders of one test process: a command line with environment, folder, three
streams, and a socket for the exit status. What a test sees of a process that was forked is what it sees of one that was executed:
its pid, command line, environment, folder, session, signals, streams, and it stays a zombie until the test has its status.
A verb is executed where it is Python that would begin otherwise, because of a variable of its own or another locale.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULE = "trainyard.cli.commandline"
_ROOMS = ("cli", "clouds", "leases", "ledger", "playbook", "recipes", "remote", "runs", "settings", "setup", "stacks", "storage")
_NOT = ("trainyard.clouds.local.", "trainyard.ledger.migrations.")
"""What is loaded beforehand; what of it runs inside of pods, or with an old ledger, only."""
_LATE = ("boto3.session", "boto3.s3.inject", "botocore.httpsession", "botocore.signers", "fabric", "jinja2", "paramiko", "rich.table")
"""What a verb loads when it needs it."""
_OF_PYTHON = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "SSL_", "OPENSSL_")
"""Variables that are read before the first line of a verb."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_ROOM = 65536
"""Bytes for a command line and for an environment, which the kernel shows from where they were when the server began."""


def start(argv: list[str], env: Mapping[str, str], **streams: Any) -> subprocess.Popen[str]:
    """Start a verb by its command line, by a fork where that shows nowhere; ``streams`` is for Popen."""
    forked = hasattr(os, "pidfd_open") and _of_python(env) == _of_python(os.environ) and sum(map(len, env.items())) < _ROOM / 2
    kind: Any = _Forked if forked else subprocess.Popen
    process: subprocess.Popen[str] = kind(argv, env=env, text=True, **streams)
    return process


class _Forked(subprocess.Popen[Any]):
    """A process of the server: Popen but for how the process begins, and for who is its parent."""

    def _execute_child(self, args: Any, _executable: Any, _preexec: Any, _close: Any, _pass: Any, cwd: Any, env: Any, *rest: Any) -> None:
        streams, session = rest[3:9], rest[-2]
        self._told, theirs = socket.socketpair()
        order = {
            "argv": list(args), "cwd": os.fspath(cwd), "env": dict(env), "session": session, "umask": _umask(),
            "ignored": [int(number) for number in _SIGNALS if signal.getsignal(number) is signal.SIG_IGN],
        }  # fmt: skip
        with theirs:
            self.pid = _server().fork(order, (streams[0], streams[3], streams[5], theirs.fileno()))
        self._child_created = True
        self._close_pipe_fds(*streams)  # type: ignore[attr-defined]

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        self._try_wait(os.WNOHANG)
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self.returncode is None and (not flags or select.select([self._told], [], [], 0)[0]):
            self.returncode = int(self._told.recv(16))
            self._told.close()  # now it may be reaped
        return (0 if self.returncode is None else self.pid), 0

    def _handle_exitstatus(self, _status: int) -> None:
        """Keep the code that was told."""


class _Server:
    """The server as its test process has it."""

    def __init__(self) -> None:
        self.door, theirs = socket.socketpair()
        self.lock = threading.Lock()
        # The kernel shows a process's command line and environment where they were when it was executed: room for those of verbs.
        argv = [sys.executable, "-m", "tests.e2e.forkserver", str(theirs.fileno()), " " * _ROOM]
        env = {**os.environ, "ROOM": " " * _ROOM}
        with theirs:
            self.process = subprocess.Popen(argv, cwd=ROOT, env=env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        atexit.register(self.stop)

    def fork(self, order: Mapping[str, Any], handles: tuple[int, ...]) -> int:
        """Return the pid of a process with these descriptors."""
        body = json.dumps(order).encode()
        with self.lock:
            self.door.sendmsg([len(body).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handles))])
            self.door.sendall(body)
            return int(self.door.recv(16))

    def stop(self) -> None:
        """End it with its last order."""
        self.door.close()
        self.process.wait()


@functools.cache
def _server() -> _Server:
    return _Server()


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_OF_PYTHON)}


def _umask() -> int:
    kept = os.umask(0o077)
    os.umask(kept)
    return kept


def serve(door: socket.socket) -> list[str] | None:
    """Fork a process for each order; return its command line in the new process, and None when no more orders will come."""
    watched = selectors.DefaultSelector()
    watched.register(door, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.data is not None:
                watched.unregister(key.fileobj)
                key.data()
                continue
            size, control, _, _ = door.recvmsg(4, socket.CMSG_SPACE(64))
            if not size:
                return None
            order = json.loads(door.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
            handles = array.array("i", control[0][2])
            pid = os.fork()
            if not pid:
                for each in list(watched.get_map().values()):
                    os.close(each.fd)
                _become(order, handles)
                return list(order["argv"])
            door.sendall(str(pid).encode())
            for handle in handles[:3]:
                os.close(handle)
            ended = os.pidfd_open(pid)
            watched.register(ended, selectors.EVENT_READ, functools.partial(_tell, watched, pid, ended, handles[3]))


def _tell(watched: selectors.BaseSelector, pid: int, ended: int, line: int) -> None:
    """Tell how a process has ended, and reap it when that is known."""
    os.close(ended)
    how = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert how is not None
    with contextlib.suppress(OSError):  # nobody asks any more
        os.write(line, str(how.si_status if how.si_code == os.CLD_EXITED else -how.si_status).encode())

    def known() -> None:
        os.close(line)
        os.waitpid(pid, 0)

    watched.register(line, selectors.EVENT_READ, known)


def _become(order: dict[str, Any], handles: Sequence[int]) -> None:
    """Be the process that the order is for."""
    if order["session"]:
        os.setsid()
    for number, handle in enumerate(handles[:3]):
        os.dup2(handle, number)
    for handle in handles:
        os.close(handle)
    # The server's own remember what they were opened on: one that can be sought in.
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    for each in _SIGNALS:
        usual = signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL
        signal.signal(each, signal.SIG_IGN if each in order["ignored"] else usual)
    os.umask(order["umask"])
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    sys.argv, sys.path[0] = [sys.modules[MODULE].__file__ or "", *order["argv"][3:]], order["cwd"]
    places = [int(word) for word in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:49]]
    _show(places[:2], order["argv"])
    _show(places[2:], [f"{name}={value}" for name, value in order["env"].items()])


def _show(place: Sequence[int], words: Sequence[str]) -> None:
    """Let /proc show these words."""
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    size = place[1] - place[0]
    assert len(text) <= size, f"{len(text)} bytes of command line or environment have no room in {size}"
    ctypes.memmove(place[0], text.ljust(size, b"\0"), size)


def _load() -> None:
    from trainyard.secret import Secret
    from trainyard.storage import client

    for room in _ROOMS:
        for path in sorted((ROOT / "trainyard" / room).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if not name.startswith(_NOT) and not name.endswith("__main__"):
                importlib.import_module(name)
    for name in _LATE:
        importlib.import_module(name)
    client.s3(client.StoreSettings("s3", "http://127.0.0.1:9", "us-east-1", "", Secret("-"), Secret("-")))  # reads a megabyte of JSON
    gc.collect()
    gc.freeze()  # the collector would write into what all the forks share
    assert len(os.listdir("/proc/self/task")) == 1, "a fork takes along no thread, and each lock that it held"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests
    _load()
    if serve(socket.socket(fileno=int(sys.argv[1]))) is not None:
        sys.modules[MODULE].main()
