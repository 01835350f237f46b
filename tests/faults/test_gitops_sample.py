"""What is left when a sync of git's wishes is killed at random instants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [1])
def test_killed_syncs_leave_one_training_of_each_file_and_no_pod(seed: int, tmp_path: Path) -> None:
    # A process of its own: the sample forks, and this one has other tests' threads.
    words = [sys.executable, "-m", "tests.faults.gitops_sample", str(tmp_path), str(seed)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
