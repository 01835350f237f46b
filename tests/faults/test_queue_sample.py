"""What is left when a worker of the queue is killed at random instants."""

from __future__ import annotations

import subprocess
import sys

from tests.sources import ROOT


def test_killed_workers_leave_one_training_of_each_entry_and_no_pod() -> None:
    # A process of its own: the sample forks, and this one has other tests' threads.
    words = [sys.executable, "-m", "tests.faults.queue_sample", "--cases", "1", "--seed", "1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
