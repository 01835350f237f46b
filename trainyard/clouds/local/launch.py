"""How a supervisor is started: detached, with what the pod needs to see, and a pipe on which it answers once."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainyard.clouds.local import registry

PATIENCE = 30.0
"""Seconds in which a supervisor must have answered."""
_HERE = Path(__file__).resolve().parent
# A module, unlike a script, is compiled once.
_START = f"import sys;sys.path.insert(0,{str(_HERE)!r});import supervisor;supervisor.main()"
# The child goes on alone, so that nobody has to wait for it, and makes way for what trains.
_REMOVE = f"import os,sys;sys.path.insert(0,{str(_HERE)!r});import sandbox;os.fork() or (os.nice(10),sandbox.remove_tree(sys.argv[1]))"
_PROBE = f"import sys;sys.path.insert(0,{str(_HERE)!r});import supervisor;sys.stdout.write(supervisor.probe())"


def start(folder: Path) -> dict[str, Any]:
    """Make sure that a supervisor serves the pod; return its address, ``{"state": "dead"|"gone"}`` or ``{"error": ...}``."""
    if registry.read(folder, "port") is None and registry.holder(folder / "alive") == 0:
        answer = _spawn(folder)
        if "port" in answer or "error" in answer:
            return answer
    return _await_other(folder)


def remove_behind(folder: Path, lock: int) -> None:
    """Have a folder removed by a process of its own, which holds ``lock`` until it is done."""
    with open(os.devnull, "r+b") as null:
        subprocess.run(
            [*python(), "-c", _REMOVE, str(folder)], stdin=null, stdout=null, stderr=null, pass_fds=(lock,),
            env={"PATH": os.defpath}, cwd="/", start_new_session=True, check=False,
        )  # fmt: skip


def python() -> list[str]:
    """Return the command of a bare Python: no site, no environment, no search path of ours."""
    return [os.path.realpath(sys.executable), "-I", "-S"]


def probe() -> str:
    """Return why namespaces are refused here, empty when they are not."""
    done = subprocess.run([*python(), "-c", _PROBE], capture_output=True, text=True, check=False, timeout=PATIENCE)
    return done.stdout if not done.returncode else f"the probe failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}"


def has_pidfd() -> bool:
    """Tell whether a process can be pinned here, so that no signal reaches another one that got its number."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def find_sshd() -> str:
    """Return the path of OpenSSH's server, empty when there is none."""
    return shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))) or ""


def asyncssh_server() -> list[str]:
    """Return the command of the SSH server for where OpenSSH's cannot serve, empty when asyncssh is not installed."""
    folder = _asyncssh_folder()
    return [sys.executable, "-I", str(_HERE / "sshserver.py"), folder] if folder else []


def needed_folders(envs: Path) -> list[str]:
    """Return what the pod must see of this machine even where a mask hides it: this Python, this project, the Pythons of environments."""
    folders = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, str(_HERE.parents[2]))}
    folders |= {sys.prefix, sys.base_prefix, _asyncssh_folder() or sys.prefix, *_links(sys.executable)}
    for python in envs.glob("*/bin/python"):
        folders |= {os.path.dirname(os.path.dirname(os.path.realpath(python))), *_links(str(python))}
    return sorted(folder for folder in folders if folder not in ("/", "/usr"))


def _asyncssh_folder() -> str:
    spec = importlib.util.find_spec("asyncssh")
    return str(Path(spec.origin).parent.parent) if spec and spec.origin else ""


def _links(path: str) -> Iterator[str]:
    """Yield the folders through which a chain of symbolic links leads."""
    for _ in range(16):
        yield os.path.dirname(path)
        if not os.path.islink(path):
            return
        path = os.path.join(os.path.dirname(path), os.readlink(path))


def _spawn(folder: Path) -> dict[str, Any]:
    reading, writing = os.pipe()
    try:
        with open(folder / "supervisor.log", "ab", buffering=0) as log:
            process = subprocess.Popen(
                [*python(), "-c", _START, str(folder), str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writing,),
                env={"PATH": os.defpath},
                cwd="/",
                start_new_session=True,
            )
    except FileNotFoundError:
        os.close(reading)
        return {"state": "gone"}
    finally:
        os.close(writing)
    try:
        return _answer(reading, process, folder)
    finally:
        os.close(reading)


def _answer(reading: int, process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    if not poller.poll(PATIENCE * 1000):
        process.kill()
        process.wait()
        return {"error": f"the supervisor did not answer within {PATIENCE:.0f} s"}
    data = os.read(reading, 65536)
    process.wait()
    try:
        answer = json.loads(data)
    except ValueError:
        return {"error": "the supervisor died: " + _last_line(folder / "supervisor.log")}
    return answer if isinstance(answer, dict) else {"error": "the supervisor answered nonsense"}


def _await_other(folder: Path) -> dict[str, Any]:
    """Wait for the supervisor that somebody else started."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        address = registry.read(folder, "port")
        alive = registry.holder(folder / "alive") or registry.holder(folder / "subreaper")
        if address is not None:
            return address if alive else {"state": "dead"}
        if not folder.exists():
            return {"state": "gone"}
        time.sleep(0.005)
        if not alive:
            answer = _spawn(folder)
            if "port" in answer or "error" in answer:
                return answer
    return {"error": f"the supervisor did not answer within {PATIENCE:.0f} s"}


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    return lines[-1] if lines else "it left no word"
