"""A clock that tests turn."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.pod.watchdog import PodClock


class TurnedClock(PodClock):
    """Both clocks stand still until they are turned; the wall clock can be set, the boot clock cannot."""

    def __init__(self, wall: float = 1_800_000_000.0, boot: float = 5_000.0) -> None:
        self.wall_time, self.boot_time = wall, boot
        self.slept: list[float] = []

    def wall(self) -> float:
        return self.wall_time

    def boot(self) -> float:
        return self.boot_time

    def sleep(self, seconds: float, wake: Sequence[object] = ()) -> None:
        self.slept.append(seconds)
        self.go(seconds)

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.wall_time += seconds
        self.boot_time += seconds

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self.wall_time += seconds
