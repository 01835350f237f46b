"""A run that is followed: its events one by one, and what it comes to."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from trainyard.api.listener import TrainingEvent
from trainyard.api.work import Root, Work
from trainyard.errors import Detached, TrainyardError

if TYPE_CHECKING:
    from trainyard.runs.context import CommandContext
    from trainyard.runs.records.summary import RunSummary


class RunFailed(TrainyardError):
    """A run has not succeeded: it failed, or was stopped or cancelled. ``summary`` tells all of it; the exit code is the run's."""

    def __init__(self, summary: RunSummary) -> None:
        from trainyard.runs.records.summary import verdict

        word = verdict(success=summary.success, cancelled=summary.cancelled, stopped=summary.stopped)
        super().__init__(
            f"run {summary.run} {word}: {summary.error or 'its training ended without success'}",
            hint=f"Go on from its newest checkpoint: {summary.resume}" if summary.resume else None,
        )
        self.summary = summary
        self.exit_code = summary.exit_status


class RunFollower:
    """An iterator over what a run tells until its end. Driving it goes on whether or not events are taken.

    Leave it before its end (``close()``, the end of a ``with`` block, or nothing refers to it any more) and a training
    goes on without you: its pod and ``follow()`` or ``invoke recover`` finish the story.
    """

    def __init__(self, root: Root | None, call: Callable[[CommandContext], RunSummary], *, check: bool) -> None:
        self._work, self._check = Work(root, call), check
        self._open = True
        weakref.finalize(self, self._work.listener.leave)

    def __iter__(self) -> RunFollower:
        return self

    def __next__(self) -> TrainingEvent:
        try:
            event = self._work.listener.take()
        except BaseException as why:  # a Ctrl-C, while it waits
            self._open = False
            self._work.left(why)
        if event is None:
            raise StopIteration(self._outcome())
        return event

    def __enter__(self) -> RunFollower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def missed(self) -> int:
        """How many events were dropped, the oldest first, because 10,000 were waiting."""
        return self._work.listener.missed

    def result(self) -> RunSummary:
        """Wait for the end, past all events, and return the summary.

        Raises RunFailed for a run that has not succeeded (unless ``check=False``), Detached and what else follow() raises.
        """
        for _ in self:
            pass
        return self._outcome()

    def close(self) -> None:
        """Leave the run where that does it no harm, and wait until it is left. Raises StillThere where something may cost money."""
        if self._open:
            self._open = False
            error = self._work.leave()
            if isinstance(error, Exception) and not isinstance(error, Detached):
                raise error

    def _outcome(self) -> RunSummary:
        self._open = False
        return checked(self._work.outcome(), check=self._check)


def checked(summary: RunSummary, *, check: bool) -> RunSummary:
    """Return a summary; raises RunFailed for one that is no success where that is asked for."""
    if check and summary.exit_status:
        raise RunFailed(summary)
    return summary
