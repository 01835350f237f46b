"""Work in several worlds at once, until it is done or somebody interrupts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from trainyard.runs.signals import handled


def side_by_side(work: Callable[[], None], workers: int, over: threading.Event) -> None:
    """Do the work in threads. An interrupt sets ``over``: what runs comes to its end, what it made is taken away, the figures are told."""
    with handled((signal.SIGINT, signal.SIGTERM), lambda *_: over.set()):
        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
