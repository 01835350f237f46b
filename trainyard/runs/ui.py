"""Who is told what happens while a run goes on; and the person at a terminal: stages with their seconds, one progress line, warnings."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from rich.console import Console

from trainyard.phrasing import as_typed
from trainyard.runs.events import ProgressEvent, StateEvent

_LINE_EVERY = 10.0
_MOST_LINES = 200
"""Lines of a program's own log that are shown of one piece of it."""
_LONGEST_LINE = 4096
_STEERING = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Escape sequences and control characters, all but the tabulator."""


class Listener(Protocol):
    """Who is told: a person at a terminal, or the caller of the Python API. May be told from several threads at once."""

    @property
    def leaves(self) -> bool:
        """True as soon as whoever asked for this wants to go; looked at where a run may be left."""

    def say(self, text: str) -> None:
        """Take one line."""

    def warn(self, text: str) -> None:
        """Take a warning."""

    def fail(self, text: str) -> None:
        """Take what went wrong."""

    @property
    def console(self) -> Console:
        """What tables are printed on."""

    def agreed(self, question: str) -> bool:
        """Answer a question; where nobody can it is a no."""

    def answer_to(self, question: str) -> str:
        """Answer a question with words, none where nobody can."""

    def stage(self, name: str, what: str) -> AbstractContextManager[None]:
        """Take that a stage begins, and that it ends."""

    def engine_event(self, event: object) -> None:
        """Take an engine's event."""

    def state(self, event: StateEvent) -> None:
        """Take what has happened to an attempt."""

    def progress(self) -> AbstractContextManager[Callable[[ProgressEvent], None]]:
        """Give what takes the newest figures while a training is followed."""

    def log(self, lines: Sequence[bytes], *, shown: bool) -> None:
        """Take lines of a training's log; ``shown``: it is a program of a person's own, which has told no figures yet."""


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
    def leaves(self) -> bool:
        """A person leaves by a signal, which is an exception."""
        return False

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

    def state(self, event: StateEvent) -> None:
        """Print nothing: the stages say it."""

    @contextmanager
    def progress(self) -> Iterator[Callable[[ProgressEvent], None]]:
        """Draw figures as they come: a bar on a terminal, else a line every ten seconds and at the end."""
        if self.console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn

            columns = TextColumn("train     "), BarColumn(bar_width=30), TextColumn("{task.fields[text]}")
            with Progress(*columns, console=self.console) as bar:
                task = bar.add_task("train", total=None, text="no figures yet")
                yield lambda event: bar.update(task, total=event.steps or None, completed=event.step, text=event.text)
            return
        newest: ProgressEvent | None = None
        last, shown = 0.0, -1

        def draw(event: ProgressEvent) -> None:
            nonlocal newest, last, shown
            newest = event
            if time.monotonic() - last >= _LINE_EVERY:
                last, shown = time.monotonic(), event.step
                self.say(f"train      {event.text}")

        try:
            yield draw
        finally:
            if newest and newest.step and newest.step != shown:
                self.say(f"train      {newest.text}")

    def log(self, lines: Sequence[bytes], *, shown: bool) -> None:
        """Print what a program prints that tells no figures; a flood is cut, the whole log is kept elsewhere."""
        if not shown:
            return
        if len(lines) > _MOST_LINES:
            self.say(f"           ... {len(lines) - _MOST_LINES:,} lines more, in its log")
        for line in lines[-_MOST_LINES:]:
            self.say(as_on_terminal(line))

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


def as_on_terminal(line: bytes) -> str:
    """Return a line of a log as a terminal would be left with it: what a carriage return overwrote and what steers it taken out."""
    text = line.rstrip(b"\r").rpartition(b"\r")[2][:_LONGEST_LINE].decode("utf-8", "replace")
    return _STEERING.sub("", text)
