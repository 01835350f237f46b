"""What a person sees while a run goes on: stages with their seconds, one progress line, warnings."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console

from trainyard.phrasing import as_typed


class _Screen(Console):
    """A console that may go away while a run is driven (a closed terminal, a pipe whose reader has left): nobody reads on, that is all."""

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self._gone()

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:
            self._gone()

    def _gone(self) -> None:
        self.quiet = True
        del self._buffer[:]
        with contextlib.suppress(OSError, ValueError):  # what is left in the stream's own buffer must not fail at exit
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)


class Ui:
    """Say things to a person. With ``json`` all of it goes to stderr, so that stdout holds only the result."""

    def __init__(self, *, json: bool = False, stream: TextIO | None = None) -> None:
        self.json = json
        self.console = _Screen(file=stream or (sys.stderr if json else sys.stdout), highlight=False, emoji=False, soft_wrap=True)
        if self.console.width < 1:  # COLUMNS=0: nothing at all would be printed
            self.console.width = 80

    @property
    def live(self) -> bool:
        """True where a moving progress bar can be drawn."""
        return self.console.is_terminal

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(as_typed(text), markup=False)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.console.print(as_typed(f"warning: {text}"), markup=False, style="yellow")

    def fail(self, text: str) -> None:
        """Print what went wrong."""
        self.console.print(as_typed(text), markup=False, style="red")

    def agreed(self, question: str) -> bool:
        """Ask a person; with nobody at a terminal the answer is no."""
        return self.answer_to(question).lower() in ("y", "yes")

    def answer_to(self, question: str) -> str:
        """Return what a person answers, an empty text with nobody at a terminal."""
        if sys.stdin is None or not sys.stdin.isatty():
            return ""
        self.console.print(as_typed(question), markup=False, end="")
        try:
            return input().strip()
        except EOFError:
            return ""

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Announce a stage and, at its end, how long it took."""
        began = time.monotonic()
        self.console.print(as_typed(f"{name:<10} {what}"), markup=False, style="bold")
        yield
        self.console.print(f"{name:<10} done in {time.monotonic() - began:.1f} s", markup=False, style="dim")

    def engine_event(self, event: object) -> None:
        """Print an engine's event when it is of use to a person."""
        assert isinstance(event, dict)
        if event.get("event") == "step" and event.get("op") not in ("same", "read") and event.get("status") != "start":
            kind = str(event.get("type")).rpartition(":")[2]
            took = f" ({event['seconds']:.1f} s)" if isinstance(event.get("seconds"), (int, float)) else ""
            what = f"{event.get('op')} {kind} {event.get('name')}"
            sentence = f"would {what}" if event.get("status") == "planned" else f"{what} {event.get('status')}{took}"
            self.console.print(f"           {sentence}", markup=False, style="dim")
        elif event.get("event") == "diagnostic":
            about = str(event.get("urn") or "").rpartition("$")[2].split("::")[-2:]
            name = " ".join(part.rpartition(":")[2] for part in about)
            if event.get("severity") == "warning":
                self.warn(f"{name}: {event.get('message')}" if name else str(event.get("message")))
            elif event.get("severity") == "info" and about[0].startswith("trainyard:"):
                # A resource of ours has something to say: what stays in a bucket, who carries its rules out.
                self.console.print(as_typed(f"           {event.get('message')}"), markup=False)
