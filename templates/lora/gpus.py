"""How busy the GPUs are and how full, asked beside the training: a thread asks nvidia-smi, so that no step waits for its answer.

Standard library only.
"""

from __future__ import annotations

import subprocess
import threading
import time

EVERY = 5.0
"""Seconds between two looks."""
_ASK = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")


class Gpus:
    """What was seen of all GPUs since the last line of metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: list[float] = []
        self._fullest = 0.0

    def watch(self) -> None:
        """Look now and then, until the process ends; where nvidia-smi does not answer, nothing is told."""
        threading.Thread(target=self._look, daemon=True).start()

    def take(self) -> dict[str, float]:
        """Return the mean of how busy they were, and the memory of the fullest, since this was asked last."""
        with self._lock:
            busy, fullest = self._busy, self._fullest
            self._busy, self._fullest = [], 0.0
        if not busy:
            return {}
        return {"gpu_percent": round(sum(busy) / len(busy), 1), "gpu_memory_gb": round(fullest / 1024, 2)}

    def _look(self) -> None:
        while True:
            time.sleep(EVERY)
            try:
                said = subprocess.run(_ASK, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True).stdout.decode()
                rows = [tuple(map(float, line.split(","))) for line in said.splitlines()]
            except (OSError, ValueError, subprocess.SubprocessError):
                return  # no driver, or a figure that it does not have ("[N/A]")
            with self._lock:
                self._busy += [percent for percent, _ in rows]
                self._fullest = max([self._fullest, *(used for _, used in rows)])
