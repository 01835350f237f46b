"""States, money and moments as the pages show them: a word with a tone, digits with a unit, how long ago and when exactly."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from trainyard.clock import parse_iso

_UNKNOWN = "not known"


class ShownState(NamedTuple):
    """A state as it is shown: ``tone`` is a colour of trainyard.css, ``icon`` one of icons.html."""

    word: str
    tone: str
    icon: str
    meaning: str


_STATES: Mapping[str, ShownState] = {
    "prepared": ShownState("renting", "live", "turn", "a pod is asked for"),
    "up": ShownState("setting up", "live", "turn", "its pod is there and is made ready"),
    "started": ShownState("training", "live", "turn", "the training runs"),
    "trained": ShownState("saving", "live", "turn", "the training is over, its result is brought to safety"),
    "committed": ShownState("ending", "live", "turn", "the result is safe, its pod is being ended"),
    "succeeded": ShownState("succeeded", "good", "check", "the result is safe and its pod is proven gone"),
    "failed": ShownState("failed", "bad", "cross", "it did not come to a result"),
    "cancelled": ShownState("cancelled", "quiet", "minus", "a person has ended it"),
    "stopped": ShownState("stopped", "wait", "pause", "it was told to stop and has saved"),
    "unreadable": ShownState("unreadable", "bad", "cross", "its record cannot be read"),
    "at work": ShownState("at work", "live", "turn", "a worker has begun it"),
    "starts": ShownState("next", "live", "clock", "the next worker that looks begins it"),
    "waits": ShownState("waits", "quiet", "clock", "its turn has not come"),
    "held": ShownState("held", "wait", "pause", "a person, or what is wrong with it, holds it back"),
    "approval": ShownState("to approve", "wait", "hand", "a person has to say that it may run"),
    "broken": ShownState("broken", "bad", "cross", "it cannot begin"),
    "blocked": ShownState("blocked", "wait", "pause", "what it waits for does not come by itself"),
    "running": ShownState("running", "live", "turn", "its command is at work"),
    "done": ShownState("done", "good", "check", "its command has ended well"),
    "lost": ShownState("lost", "bad", "cross", "nothing is heard of it any more"),
    "new": ShownState("new", "quiet", "clock", "it never came"),
    "ready": ShownState("ready", "good", "check", "it takes leases"),
    "draining": ShownState("draining", "wait", "pause", "it takes no new lease, and leaves when its last one is over"),
    "silent": ShownState("silent", "wait", "clock", "its last word is late"),
    "away": ShownState("away", "quiet", "minus", "it has said that it leaves"),
}
PHASES = ("prepared", "up", "started", "trained", "committed")
"""Of a run that goes on, in their order."""


def shown_state(state: str) -> ShownState:
    """Return a state as it is shown; one that no table knows as it is."""
    first = state.partition(",")[0].removesuffix(" record")
    known = _STATES.get(first)
    if known is None:
        return ShownState(state, "quiet", "minus", "")
    return known._replace(word=state) if "," in state else known


def money(dollars: float | None) -> str:
    """Return dollars as people read them: cents, and less than a cent as such."""
    if dollars is None:
        return _UNKNOWN
    return "<$0.01" if 0 < dollars < 0.005 else f"${dollars:,.2f}"


def rate(dollars: float | None) -> str:
    """Return dollars an hour; a disk costs less than a cent."""
    return _UNKNOWN if dollars is None else f"${dollars:,.4f}/h" if 0 < dollars < 0.1 else f"${dollars:,.2f}/h"


def figure(value: float | None) -> str:
    """Return a number with as many digits as say something."""
    if value is None:
        return "–"
    if value != 0 and not 0.001 <= abs(value) < 1e7:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def epoch(moment: str | float | None) -> float | None:
    """Return a moment in epoch seconds, which may be UTC text; None for none."""
    if isinstance(moment, str):
        read = parse_iso(moment)
        return None if read is None else read.timestamp()
    return moment


def utc(moment: float) -> datetime:
    """Return a moment for a page's <time>."""
    return datetime.fromtimestamp(moment, UTC)


def ago(moment: float, now: float) -> str:
    """Return how long ago a moment was, or in how long it will be (dash.js lets it grow in the same words)."""
    seconds = now - moment
    span = abs(seconds)
    fitting = ((unit, length) for unit, below, length in (("s", 60, 1), ("min", 3600, 60), ("h", 172_800, 3600)) if span < below)
    unit, length = next(fitting, ("days", 86_400))
    count = int(span / length)
    return f"in {count} {unit}" if seconds < 0 else f"{count} {unit} ago"
