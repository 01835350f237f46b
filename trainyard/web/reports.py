"""What a verb says with `--json` that asks clouds, buckets or all of the ledger: asked once for all who look, and kept for a while.

Such a verb reads only. It works in a process of its own, as everything does that takes long: what it takes of memory goes with it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.errors import CloudError, TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.secret import hide
from trainyard.web.site import Site

_PATIENCE = 120.0
"""Seconds in which a verb has to answer."""
_MOST = 200
"""So many reports are kept."""
_SAID = 2000


@dataclass(frozen=True, slots=True)
class VerbReport:
    """What a verb has said, and when (epoch seconds)."""

    as_of: float
    value: Any


@dataclass(frozen=True, slots=True)
class PendingReport:
    """What is known of a report now. ``running``: a newer one is on its way; ``problem``: why the last one did not come."""

    report: VerbReport | None
    running: bool
    problem: str | None


class VerbReports:
    """The reports of one server. Of those who ask for the same at once one has the verb work, and the others wait for it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._kept: dict[tuple[str, ...], VerbReport] = {}
        self._locks: dict[tuple[str, ...], threading.Lock] = {}
        self._lock = threading.Lock()
        self._running: set[tuple[str, ...]] = set()
        self._problems: dict[tuple[str, ...], tuple[float, str]] = {}

    def get(self, words: Sequence[str], age: float) -> VerbReport:
        """Return what a verb says, at most so many seconds old; raises what it fails with as an error of ours."""
        key = tuple(words)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            kept = self._kept.get(key)
            if kept is None or self.site.now() - kept.as_of > age:
                kept = VerbReport(self.site.now(), self._ask(key))
                with self._lock:
                    self._kept[key] = kept
                    for old in sorted(self._kept, key=lambda each: self._kept[each].as_of)[:-_MOST]:
                        self._kept.pop(old)
                        self._locks.pop(old, None)
            return kept

    def soon(self, words: Sequence[str], age: float) -> PendingReport:
        """Return what is known now, and have the verb work meanwhile where that is older than so many seconds; nobody waits."""
        key, now = tuple(words), self.site.now()
        with self._lock:
            kept, failed = self._kept.get(key), self._problems.get(key)
            newest = max(kept.as_of if kept else 0.0, failed[0] if failed else 0.0)
            if key not in self._running and now - newest >= age:
                self._running.add(key)
                threading.Thread(target=self._bring, args=(key,), daemon=True).start()
            running = key in self._running
        return PendingReport(kept, running, failed[1] if failed else None)

    def _bring(self, key: tuple[str, ...]) -> None:
        problem = None
        try:
            self.get(key, 0.0)
        except TrainyardError as error:
            problem = error.message
        finally:
            with self._lock:
                self._running.discard(key)
                self._problems.pop(key, None)
                if problem is not None:
                    self._problems[key] = (self.site.now(), problem)
                    self._problems = dict(list(self._problems.items())[-_MOST:])

    def _ask(self, words: tuple[str, ...]) -> Any:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "trainyard", *words], cwd=self.site.context.places.root, env=self.site.environment(),
                stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CloudError(f"{words[0]}: no answer within {_PATIENCE:.0f} s") from None
        try:
            return parse_json(done.stdout)
        except ValueError:
            if done.returncode == 0 and (lines := _lines(done.stdout)) is not None:
                return lines
            said = hide(done.stderr[-_SAID:].decode(errors="replace")).strip() or f"{words[0]} has said nothing"
            raise _error(done.returncode)(said) from None


def _lines(output: bytes) -> list[Any] | None:
    """Return the values that stand on lines of their own, as engines print events; None where a line is none."""
    try:
        return [parse_json(line) for line in output.splitlines() if line.strip()] or None
    except ValueError:
        return None


def _error(code: int) -> type[TrainyardError]:
    return UserError if code == UserError.exit_code else CloudError
