"""What nanochat's log tells: steps, losses and figures, line by line. Standard library only."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

_NUMBER = r"([0-9.]+|nan|inf)"
_SPEED = r".*? dt: ([0-9.]+)ms \| tok/sec: ([0-9,]+) .*?mfu: " + _NUMBER
_BASE = re.compile(r"step (\d+)/(\d+) \(.*?\) \| loss: " + _NUMBER + _SPEED)
_SFT = re.compile(r"step (\d+) \(([0-9.]+)%\) \| loss: " + _NUMBER + _SPEED)
_LOOK = re.compile(r"Step (\d+) \| (Validation bpb|CORE metric|ChatCORE): " + _NUMBER)
_FIGURES = (
    (re.compile(r"(train|val) bpb: " + _NUMBER), "{}_bpb"),
    (re.compile(r"(CORE) metric: (-?[0-9.]+)"), "core_metric"),
    (re.compile(r"([\w-]+) accuracy: ([0-9.]+)%"), "{}"),
    (re.compile(r"(total) *: ([0-9,]+)"), "parameters"),
    (re.compile(r"(Minimum) validation bpb: " + _NUMBER), "min_val_bpb"),
    (re.compile(r"(Peak) memory usage: ([0-9.]+)MiB"), "peak_mib"),
    (re.compile(r"(Total) training time: ([0-9.]+)m"), "training_minutes"),
)
_ERROR = re.compile(r"(?:\[rank\d+\]: *)?((?!\S*ChildFailedError)[\w.]+(?:Error|Exception)\b.*)")
"""What a Python program that dies says last, alone or as one of several: torchrun writes a page of its own behind it."""
_SHOWN = 200
_LOOKS = {"Validation bpb": "val_bpb", "CORE metric": "core_metric", "ChatCORE": "chatcore"}


class LogReader:
    """Reads the lines of one step; ``tell`` gets each line of metrics, ``figures`` what was measured last."""

    def __init__(self, step: str, before: int, tell: Callable[[dict[str, Any]], None]) -> None:
        self.step, self.before, self.tell = step, before, tell
        self.figures: dict[str, float] = {}
        self.at: int | None = None
        """The step that was trained last."""
        self.total: int | None = None
        self._error = self._last = ""

    @property
    def reason(self) -> str:
        """Why the program died, as far as it said."""
        return (self._error or self._last)[:_SHOWN]

    def line(self, text: str) -> None:
        """Read one line."""
        self._last = text.strip() or self._last
        if error := _ERROR.match(text):
            self._error = error[1]
        if self.step == "base" and (found := _BASE.match(text)):
            self._trained(int(found[1]), int(found[2]), found.groups()[2:])
        elif self.step == "sft" and (found := _SFT.match(text)):
            share, number = float(found[2]) / 100, int(found[1])
            # How many there will be is only known by how much of the rows is used up.
            self._trained(number, round(number / share) if share >= 0.01 else None, found.groups()[2:])
        elif found := _LOOK.match(text):
            name = ("sft_" if self.step == "sft" and found[2] == "Validation bpb" else "") + _LOOKS[found[2]]
            self.figures[name] = float(found[3])
            self.tell({"step": self.before + int(found[1]), name: float(found[3]), "phase": self.step, "time": time.time()})
        else:
            for pattern, name in _FIGURES:
                if found := pattern.match(text):
                    self.figures[name.format(found[1])] = float(found[2].replace(",", ""))

    def _trained(self, number: int, total: int | None, words: tuple[str, ...]) -> None:
        loss, milliseconds, speed, used = words
        self.at, self.total = number, total
        self.figures |= {"loss": float(loss)}
        self.tell({
            "step": self.before + number, "total_steps": None if total is None else self.before + total, "loss": float(loss),
            "tokens_per_second": int(speed.replace(",", "")), "step_seconds": float(milliseconds) / 1000, "mfu": float(used),
            "phase": self.step, "time": time.time(),
        })  # fmt: skip
