"""A process is told from a later one with its number, and from a dead one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from trainyard import processes


def test_a_process_keeps_its_mark_while_it_lives_and_has_none_afterwards() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = processes.start_mark(child.pid)
    assert mark and mark == processes.start_mark(child.pid) and mark.endswith(processes.boot_id())
    assert mark != processes.start_mark(os.getpid())
    assert processes.is_alive(child.pid)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.start_mark(child.pid) is None and not processes.is_alive(child.pid)  # a zombie
    child.communicate()
    assert processes.start_mark(child.pid) is None and not processes.is_alive(child.pid)


def test_only_the_process_of_that_mark_is_ended() -> None:
    ignores = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", ignores], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline()
        processes.end_process(child.pid, "1/another boot", 1.0)
        assert child.poll() is None

        processes.end_process(child.pid, str(processes.start_mark(child.pid)), 0.01)
        assert child.wait() == -signal.SIGKILL
