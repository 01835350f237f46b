"""Verbs, engines and providers forked from processes that have loaded what they load: starting Python and loading it all is most
of what many of them cost.

``python -m tests.e2e.forkserver KIND SOCKETS`` serves orders at a unix socket for as long as its stdin is open: a command
line with environment, folder and three streams. What a test sees of a process that was forked is what it sees of one that was
executed: its pid, command line, environment, folder, session, signals, streams, and it stays a zombie until its starter has its
status. Only its parent is another: whoever walks down from a verb to its engine asks ``ordered_by``, too.
A command is executed, too, where Python itself would begin otherwise, because of a variable of its own or another locale.
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
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VERBS, ENGINES, PROVIDERS = "trainyard.cli.commandline", "trainyard.engine", "trainyard.provider.main"
_SERVERS = {VERBS: "verbs", ENGINES: "engines", PROVIDERS: "engines"}
_LAUNCHER = ROOT / "infra" / "provider" / "pulumi-resource-trainyard"
_ROOMS = {
    "verbs": ("cli", "clouds", "leases", "ledger", "playbook", "recipes", "remote", "runs", "settings", "setup", "stacks", "storage"),
    "engines": ("clouds", "engine", "leases", "remote", "settings", "storage"),
}
_NOT = (
    "trainyard.clouds.local.", "trainyard.clouds.modal.", "trainyard.engine.shim", "trainyard.ledger.migrations.",
    "trainyard.runs.trackers.to_",
)  # fmt: skip
"""What of the rooms runs inside of pods, with another interpreter, with an old ledger or with an extra only."""
_LATE = {
    "verbs": ("botocore.httpsession", "botocore.session", "botocore.signers", "fabric", "jinja2", "paramiko", "rich.table"),
    "engines": ("trainyard.provider.main", "trainyard.provider.process", "trainyard.provider.registry", "fabric", "paramiko"),
}
"""What a verb, an engine or a provider loads when it needs it."""
_OF_PYTHON = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "GRPC_", "SSL_", "OPENSSL_")
"""Variables that are read before the first line of a program, or by a library when it is loaded."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_starting = threading.Lock()
_ROOM = 65536
"""Bytes for a command line and for an environment, which the kernel shows from where they were when the server began."""


def start(argv: Sequence[str], env: Mapping[str, str], **streams: Any) -> subprocess.Popen[str]:
    """Start a verb by its command line, by a fork where that shows nowhere, and so what it starts. ``streams`` is for Popen."""
    forked = hasattr(os, "pidfd_open") and _alike(env)
    kind: Any = functools.partial(_Forked, _sockets()) if forked else subprocess.Popen
    process: subprocess.Popen[str] = kind(argv, env=env, text=True, **streams)
    return process


def ordered_by(pid: int) -> list[int]:
    """Return the pids of what was forked for a process: its children, had it executed them."""
    return [int(path.name.partition("-")[2]) for path in _sockets().glob(f"{pid}-*")] if hasattr(os, "pidfd_open") else []


def _alike(env: Mapping[str, str]) -> bool:
    ours, theirs = ({name: value for name, value in each.items() if name.startswith(_OF_PYTHON)} for each in (os.environ, env))
    return ours == theirs and sum(len(name) + len(value) for name, value in env.items()) < _ROOM // 2


class _Forked(subprocess.Popen[Any]):
    """A process of a server: Popen but for how the process begins, and for who is its parent."""

    def __init__(self, sockets: Path, argv: Sequence[str], **more: Any) -> None:
        self._server = sockets / _SERVERS[argv[2]]
        super().__init__(argv, **more)

    def _execute_child(self, args: Any, _executable: Any, _preexec: Any, _close: Any, _pass: Any, cwd: Any, env: Any, *rest: Any) -> None:
        streams, session = rest[3:9], rest[-2]
        order = {
            "argv": list(args), "cwd": os.fspath(cwd), "env": dict(env), "session": session, "umask": _umask(),
            "ignored": [int(number) for number in _SIGNALS if signal.getsignal(number) is signal.SIG_IGN],
        }  # fmt: skip
        body, handles = json.dumps(order).encode(), array.array("i", (streams[0], streams[3], streams[5]))
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(self._server))
        self._line.sendmsg([len(body).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
        self._line.sendall(body)
        self.pid = self._told()
        self._child_created = True
        self._close_pipe_fds(*streams)  # type: ignore[attr-defined]

    def _told(self) -> int:
        """Return what the server says next."""
        told = self._line.recv(16)
        assert told, f"the fork server at {self._server} is gone: nothing can be said of what it has forked"
        return int(told)

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        self._try_wait(os.WNOHANG)
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self.returncode is None and (not flags or select.select([self._line], [], [], 0)[0]):
            self.returncode = self._told()
            self._line.shutdown(socket.SHUT_WR)
            self._line.recv(1)  # now it is reaped
            self._line.close()
        return (0 if self.returncode is None else self.pid), 0

    def _handle_exitstatus(self, _status: int) -> None:
        """Keep the code that was told."""


def _sockets() -> Path:
    """Start the servers once, for as long as this process lives; return the folder of their sockets."""
    with _starting:
        return _servers()


@functools.cache
def _servers() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tyf", dir="/tmp"))
    for kind in _ROOMS:
        # The kernel shows a command line and an environment where they were when a process was executed: room for what is to be shown.
        argv = [sys.executable, "-m", "tests.e2e.forkserver", kind, str(folder), " " * _ROOM]
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(folder / kind))
            door.listen(64)
            env = {**os.environ, "GRPC_VERBOSITY": "NONE", "ROOM": " " * _ROOM, "DOOR": str(door.fileno())}
            server = subprocess.Popen(argv, cwd=ROOT, env=env, pass_fds=[door.fileno()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        atexit.register(server.communicate)
    return folder


def _umask() -> int:
    kept = os.umask(0o077)
    os.umask(kept)
    return kept


def serve(door: socket.socket, sockets: Path) -> dict[str, Any] | None:
    """Fork a process for each order; return the order in the new process, and None when no more orders will come.

    While the process is there, a file in ``sockets`` says for whom it was forked.
    """
    watched = selectors.DefaultSelector()
    watched.register(door, selectors.EVENT_READ)
    watched.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.fileobj == 0:
                return None
            if key.data is not None:
                watched.unregister(key.fileobj)
                _ended(watched, sockets, key.fd, *key.data)
                continue
            line = door.accept()[0].detach()
            order, handles, orderer = _order(line)
            if order is None:  # who ordered was killed before it had said what
                os.close(line)
                continue
            pid = os.fork()
            if not pid:
                # All of them now and for good: what is closed when it is collected may be another's by then.
                door.detach()
                opened = {line}.union(*({each.fd, *(each.data or ())[1:]} for each in watched.get_map().values()))
                watched.close()
                for each in opened - {0}:
                    os.close(each)
                _become(order, handles)
                return order
            (sockets / f"{orderer}-{pid}").touch()
            with contextlib.suppress(OSError):  # who ordered was killed: what it started goes on, as what it executed would
                os.write(line, str(pid).encode())
            for handle in handles:
                os.close(handle)
            watched.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, line))


def _order(line: int) -> tuple[dict[str, Any] | None, Sequence[int], int]:
    talk = socket.socket(fileno=line)
    size, control, _, _ = talk.recvmsg(4, socket.CMSG_SPACE(64))
    handles = array.array("i", control[0][2] if control else b"")
    body = talk.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    (orderer,) = struct.unpack_from("i", talk.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    talk.detach()
    if len(size) == 4 and len(body) == int.from_bytes(size, "big"):
        return json.loads(body), handles, orderer
    for handle in handles:
        os.close(handle)
    return None, (), orderer


def _ended(watched: selectors.BaseSelector, sockets: Path, handle: int, pid: int, line: int) -> None:
    """Tell how a process has ended (``handle`` is its own), and reap it when that is known (``handle`` is the line)."""
    if handle == line:
        os.waitpid(pid, 0)
        for named in sockets.glob(f"*-{pid}"):
            named.unlink()
        os.close(line)
        return
    os.close(handle)
    how = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert how is not None
    with contextlib.suppress(OSError):  # nobody asks any more
        os.write(line, str(how.si_status if how.si_code == os.CLD_EXITED else -how.si_status).encode())
    watched.register(line, selectors.EVENT_READ, (pid, line))


def _become(order: Mapping[str, Any], handles: Sequence[int]) -> None:
    """Be the process that the order is for."""
    if order["session"]:
        os.setsid()
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
        os.close(handle)
    # The server's own remember what they were opened on: one that can be sought in.
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    for each in _SIGNALS:
        usual = signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL
        signal.signal(each, signal.SIG_IGN if each in order["ignored"] else usual)
    os.umask(order["umask"])
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    module = order["argv"][2]
    file = sys.modules[module].__file__ or ""
    sys.argv, sys.path[0] = [file, *order["argv"][3:]], order["cwd"]
    places = [int(word) for word in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:49]]
    _show(places[:2], order["argv"])
    _show(places[2:], [f"{name}={value}" for name, value in order["env"].items()])


def _show(place: Sequence[int], words: Sequence[str]) -> None:
    """Let /proc show these words."""
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    size = place[1] - place[0]
    assert len(text) <= size, f"{len(text)} bytes of command line or environment have no room in {size}"
    ctypes.memmove(place[0], text.ljust(size, b"\0"), size)


def _load(kind: str) -> None:
    if kind == "engines":
        from trainyard.engine import stubs

        stubs.protocol_only()  # as engines and providers begin
    for room in _ROOMS[kind]:
        for path in sorted((ROOT / "trainyard" / room).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if not name.startswith(_NOT) and not name.endswith("__main__"):
                importlib.import_module(name)
    for name in _LATE[kind]:
        importlib.import_module(name)
    if kind == "engines":
        stubs.whole_sdk("")
    client: Any = importlib.import_module("trainyard.storage.client")
    nobody = importlib.import_module("trainyard.secret").Secret("-")
    client.s3(client.StoreSettings("s3", "http://127.0.0.1:9", "us-east-1", "", nobody, nobody))  # reads a megabyte of JSON
    gc.collect()
    gc.freeze()  # the collector would write into what all the forks share
    assert len(os.listdir("/proc/self/task")) == 1, "a fork takes along no thread, and each lock that it held"


def _run(module: str, sockets: Path) -> None:
    """Be a program, which starts its own by forks, too."""
    if module == VERBS:
        _starts(importlib.import_module("trainyard.stacks.child"), sockets)
        sys.modules[VERBS].main()
    os.environ["GRPC_VERBOSITY"] = "NONE"
    if module == ENGINES:
        from trainyard.engine import cli, early, secrets, spawn

        _starts(spawn, sockets)
        secrets.take(os.environ)
        early.begin(sys.argv[1:])
        cli.main()
    else:
        sys.modules[PROVIDERS].main()


def _starts(module: types.ModuleType, sockets: Path) -> None:
    """Let a module of ours start engines and providers by a fork."""

    def popen(argv: list[str], **more: Any) -> subprocess.Popen[Any]:
        if argv[0] == str(_LAUNCHER) and more["env"].get("TRAINYARD_PROVIDER_PYTHON") == sys.executable:
            argv = [sys.executable, "-m", PROVIDERS, *argv[1:]]
        if argv[1:3] in (["-m", ENGINES], ["-m", PROVIDERS]) and _alike(more["env"]):
            return _Forked(sockets, argv, **more)
        return subprocess.Popen(argv, **more)

    vars(module)["subprocess"] = types.SimpleNamespace(**{**vars(subprocess), "Popen": popen})


if __name__ == "__main__":
    from tests.e2e import forkserver

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests
    forkserver._load(sys.argv[1])
    order = forkserver.serve(socket.socket(fileno=int(os.environ["DOOR"])), Path(sys.argv[2]))
    if order is None:
        folder = Path(sys.argv[2])
        (folder / sys.argv[1]).unlink(missing_ok=True)
        if not any((folder / kind).exists() for kind in forkserver._ROOMS):
            shutil.rmtree(folder, ignore_errors=True)  # the last one takes it along
    else:
        forkserver._run(order["argv"][2], Path(sys.orig_argv[4]))
