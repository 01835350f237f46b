"""What only a cloud or a bucket can tell, read by a verb in a process of its own and kept in the ledger: as of when is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.jsontext import parse_json
from trainyard.ledger.accounts import Proven
from trainyard.ledger.operations import ServerOperation
from trainyard.web.site import Site
from trainyard.web.work import begin

_STALE = 600.0
"""Seconds after which a page that is looked at has it read anew."""
_SUBJECT = "read:"


@dataclass(frozen=True, slots=True)
class CloudReading:
    """The newest that was read: ``value`` is None until there is any."""

    title: str
    value: Any = None
    at: float | None = None
    running: bool = False
    wrong: str | None = None


def is_reading(operation: ServerOperation) -> bool:
    """Tell whether a page had it read, and nobody asked for more."""
    return operation.subject.startswith(_SUBJECT)


def reading(site: Site, who: Proven, request_id: str, title: str, words: Sequence[str], *, anew: bool = False) -> CloudReading:
    """Return what a verb has told last, and have it read anew where that is old, or ``anew`` is said; one at a time."""
    subject = _SUBJECT + " ".join(words)
    known = site.operations.newest(6, subject=subject)
    running = next((each for each in known if each.state == "running"), None)
    last = next((each for each in known if each.state != "running"), None)
    fresh = last is not None and site.now() - last.created < _STALE
    if running is None and (anew or not fresh):
        running = begin(site, who, request_id, words, subject=subject)
    good = next((each for each in known if each.state == "done" and each.output), None)
    wrong = None
    if last is not None and last is not good:
        wrong = last.said or ("it told more than a page can hold" if last.state == "done" else "it ended without a word")
    try:
        value = _value(good.output) if good is not None and good.output else None
    except ValueError:
        value, wrong = None, "what it told cannot be read"
    return CloudReading(title, value, good.ended if good else None, running is not None, wrong)


def _value(text: str) -> Any:
    """Return the JSON that a verb has printed: one value, or a list of those that stand on lines of their own."""
    try:
        return parse_json(text)
    except ValueError:
        return [parse_json(line) for line in text.splitlines() if line.strip()]
