"""A process that was forked is one that was executed, in all that another process can see of it."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import forkserver

ARGV = (sys.executable, "-m", forkserver.PROVIDERS, "127.0.0.1:1")
Starter = Callable[..., subprocess.Popen[str]]


def executed(argv: tuple[str, ...], env: Mapping[str, str], **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, env=env, text=True, **more)


def _target(descriptor: Path) -> str:
    """Return what a descriptor leads to; nothing where it was closed meanwhile."""
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""


def _status(proc: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())


def look(start: Starter, folder: Path, ends_by: int) -> dict[str, object]:
    """Start a provider that ignores SIGHUP, look at it as it serves, end it."""
    env = {**os.environ, "ONE": "a b=c\nd", "TWO": ""}
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = start(ARGV, env, cwd=folder, start_new_session=True, **pipes)
    finally:
        signal.signal(signal.SIGHUP, kept)
    assert process.stdout and process.stdin and process.stdout.readline().strip().isdigit()
    proc = Path("/proc", str(process.pid))
    until = time.monotonic() + 60
    while (status := _status(proc))["SigBlk"].strip("0") and time.monotonic() < until:
        time.sleep(0.01)  # it starts a thread just now
    seen = {
        "command line": (proc / "cmdline").read_bytes().rstrip(b"\0").split(b"\0"),
        "environment": sorted(filter(None, (proc / "environ").read_bytes().split(b"\0"))),
        "folder": (proc / "cwd").readlink(),
        "session": os.getsid(process.pid) == os.getpgid(process.pid) == process.pid,
        "streams": [os.path.basename((proc / "fd" / str(number)).readlink()).partition(":")[0] for number in range(3)],
        "sockets": sum(_target(path).startswith("socket:") for path in (proc / "fd").iterdir()),
        "signals": (status["SigIgn"], status["SigBlk"], int(status["SigCgt"], 16) & 0xFFFF),
        "umask": status["Umask"],
    }
    os.kill(process.pid, ends_by)
    rest, until = process.stdout.read(), time.monotonic() + 60
    while (state := (proc / "stat").read_text().rpartition(")")[2].split()[0]) != "Z" and time.monotonic() < until:
        time.sleep(0.01)  # its streams are closed a little before
    code = process.wait()
    process.stdin.close()
    process.stdout.close()
    return seen | {"rest": rest, "zombie until it is waited for": state, "code": code, "gone": not proc.exists()}


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="NO pidfd here: nothing is forked")
@pytest.mark.parametrize("ends_by", [signal.SIGTERM, signal.SIGKILL])
def test_a_forked_process_looks_and_ends_like_an_executed_one(tmp_path: Path, ends_by: int) -> None:
    forked, other = (look(start, tmp_path, ends_by) for start in (forkserver.start, executed))

    assert forked == other
    assert forked["code"] == (0 if ends_by == signal.SIGTERM else -ends_by) and forked["gone"]


def test_where_python_itself_would_begin_otherwise_a_verb_is_executed(tmp_path: Path) -> None:
    for name, value in (("PYTHONOPTIMIZE", "1"), ("LC_ALL", "C"), ("ROOM", "x" * 40000)):
        process = forkserver.start(ARGV, {**os.environ, name: value}, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        process.kill()
        process.wait()
        assert type(process) is subprocess.Popen


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="NO pidfd here: nothing is forked")
@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\1\0{", b"whole"], ids=["nothing", "half a size", "half an order", "all"])
def test_who_is_killed_while_it_orders_a_process_takes_no_server_along(tmp_path: Path, said: bytes) -> None:
    server = forkserver._sockets() / "engines"
    order = {"argv": [*ARGV], "cwd": str(tmp_path), "env": {}, "session": False, "umask": 0o77, "ignored": []}
    body = json.dumps(order).encode()
    with socket.socket(socket.AF_UNIX) as line, open(os.devnull, "r+") as nothing:
        line.connect(str(server))
        handles = array.array("i", [nothing.fileno()] * 3)
        if said:
            whole = len(body).to_bytes(4, "big") + body if said == b"whole" else said
            line.sendmsg([whole[:4]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
            if rest := whole[4:]:  # who has said half a size may be hung up on by now
                line.sendall(rest)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with forkserver.start(ARGV, {**os.environ}, cwd=tmp_path, **pipes) as process:
        assert process.stdout and process.stdout.readline().strip().isdigit()
        process.kill()
        assert process.wait() == -signal.SIGKILL
    for pid in set(forkserver.ordered_by(os.getpid())) - {process.pid}:
        os.kill(pid, signal.SIGKILL)
