"""Trainings forked from a process that has loaded torch, transformers and peft: of a small training, loading them is nine tenths.

``python loaded.py SOCKET`` (the Python of a recipe's environment) is that process, for as long as its stdin is open. ``environment()``
makes a folder of environments whose Python is this file as a program: it hands its streams, environment and folder to a fork, passes
on what it is told to stop with, and ends as the fork does. Killed, it takes the fork along. Knows nothing but the standard library.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path

_CLIENT = """#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
import loaded
loaded.hand_over({socket!r}, sys.argv[1:])
"""


def environment(folder: Path, name: str, stamp: str, at: str) -> Path:
    """Make a folder with one environment, whose Python forks from the process at a socket; return the folder."""
    program = folder / name / "bin" / "python"
    program.parent.mkdir(parents=True)
    (folder / name / stamp).touch()
    program.write_text(_CLIENT.format(python=sys.executable, folder=str(Path(__file__).parent), socket=at))
    program.chmod(0o755)
    return folder


def hand_over(at: str, words: list[str]) -> None:
    """Have the words run by a fork; end as it does."""
    if words[:2] == ["-c", ""]:
        return
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(at)
        order = json.dumps({"words": words, "env": dict(os.environ), "cwd": os.getcwd()}).encode()
        line.sendmsg([len(order).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (0, 1, 2)))])
        line.sendall(order)
        pid = int(line.recv(16))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda told, _: os.kill(pid, told))
        code = int(line.recv(16))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(at: str) -> None:
    """Fork for each who connects; end when stdin does."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(at)
        door.listen()
        print("loaded", flush=True)
        while door.fileno() in select.select([door.fileno(), 0], [], [])[0]:
            line = door.accept()[0]
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                door.close()
                _attend(line)
            line.close()


def _attend(line: socket.socket) -> None:
    """Fork who does the work; tell how it has ended, or kill it when nobody listens any more."""
    size, control, _, _ = line.recvmsg(4, socket.CMSG_SPACE(64))
    order = json.loads(line.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    pid = os.fork()
    if not pid:
        line.close()
        for number, handle in enumerate(array.array("i", control[0][2])):
            os.dup2(handle, number)
            os.close(handle)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        sys.argv = order["words"]
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
    line.sendall(str(pid).encode())
    ended = os.pidfd_open(pid)
    if ended not in select.select([line.fileno(), ended], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        line.sendall(str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    import peft  # noqa: F401
    import torch
    import transformers

    # What trainings take of them, which each loads at its first use.
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Qwen3MoeForCausalLM, Trainer, TrainingArguments  # noqa: F401

    assert len(os.listdir("/proc/self/task")) == 1, f"a fork takes along no thread: {torch.__version__} {transformers.__version__}"
    serve(sys.argv[1])
