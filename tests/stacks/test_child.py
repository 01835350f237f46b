"""An engine as a child process: its lines, its log, and how it is asked to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from trainyard.stacks.child import run_child

ROOT = Path(__file__).resolve().parents[2]
ENGINE = """
import os, signal, sys, time
counted = []
def stop(number, frame):
    counted.append(number)
    os.write(1, f"asked {{len(counted)}} {{signal.Signals(number).name}}\\n".encode())
    if {stubborn} and number == signal.SIGINT:
        return
    sys.exit(7)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
os.write(1, b"ready\\n")
while True:
    time.sleep(0.02)
"""
CONTROLLER = """
import pathlib, sys
from trainyard.stacks.child import run_child
try:
    run_child([sys.executable, "-c", sys.argv[1]], env={}, cwd=pathlib.Path("/"), log=pathlib.Path(sys.argv[2]),
              on_line=lambda line: print(line, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@contextlib.contextmanager
def controller(log: Path, *, stubborn: bool) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", textwrap.dedent(CONTROLLER), ENGINE.format(stubborn=stubborn), str(log)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as child:
        yield child


def lines_until(child: subprocess.Popen[str], text: str) -> list[str]:
    assert child.stdout is not None
    lines: list[str] = []
    while not lines or text not in lines[-1]:
        line = child.stdout.readline()
        assert line, f"it ended before it said {text!r}: {lines}"
        lines.append(line.strip())
    return lines


def gone(log: Path) -> bool:
    """Tell whether no process works for this log any more."""
    words = str(log).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if words in (entry / "cmdline").read_bytes():
                    return False
            except OSError:
                continue
    return True


def test_a_ctrl_c_is_passed_on_once_and_what_runs_is_awaited(tmp_path: Path) -> None:
    with controller(tmp_path / "engine.log", stubborn=False) as child:
        lines_until(child, "ready")

        os.kill(child.pid, signal.SIGINT)

        assert lines_until(child, "interrupted") == ["asked 1 SIGINT", "interrupted"]
        assert child.wait(timeout=20) == 0
    assert b"ready\nasked 1 SIGINT\n" in (tmp_path / "engine.log").read_bytes()


def test_a_second_ctrl_c_ends_an_engine_that_does_not_stop(tmp_path: Path) -> None:
    with controller(tmp_path / "engine.log", stubborn=True) as child:
        lines_until(child, "ready")
        os.kill(child.pid, signal.SIGINT)
        lines_until(child, "asked 1 SIGINT")

        os.kill(child.pid, signal.SIGINT)

        assert "interrupted" in lines_until(child, "interrupted")
        assert child.wait(timeout=20) == 0
    deadline = time.monotonic() + 20
    while not gone(tmp_path / "engine.log"):
        assert time.monotonic() < deadline, "the engine outlives its second Ctrl-C"
        time.sleep(0.02)


def test_a_log_that_cannot_be_written_costs_the_log_and_nothing_else(tmp_path: Path) -> None:
    said: list[str] = []
    script = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"

    ended = run_child([sys.executable, "-c", script], env={}, cwd=tmp_path, on_line=said.append, log=Path("/dev/full"))

    assert (ended.code, ended.stderr_tail, said) == (3, "two", ["one"])
