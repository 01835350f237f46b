"""Notices that wait to be sent: a file each, with the names of the variables that hold the addresses, never the addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trainyard.filelock import hold_lock
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.runs.notices.notice import Notice
from trainyard.runs.records import codec


@dataclass(slots=True)
class QueuedNotice:
    """A notice and the names to which it has not been sent yet."""

    notice: Notice
    pending: list[str]
    tries: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    """Name -> why it could not be sent there the last time."""


class Outbox:
    """The folder of what waits. Whoever puts something in needs no lock; whoever sends holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, notice: Notice, names: Sequence[str]) -> None:
        """Let a notice wait for its sender; raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.save(QueuedNotice(notice, list(dict.fromkeys(names))))

    def waiting(self) -> list[QueuedNotice]:
        """Return what waits, oldest first; a file that cannot be read is removed: it is only a notice."""
        queued = []
        for path in self._files():
            try:
                queued.append(codec.read(QueuedNotice, parse_json(path.read_bytes())))
            except FileNotFoundError:
                continue
            except ValueError:
                path.unlink(missing_ok=True)
        return sorted(queued, key=lambda one: one.notice.time)

    def is_empty(self) -> bool:
        """Tell whether nothing waits; reads no file."""
        return next(self._files(), None) is None

    def save(self, queued: QueuedNotice) -> None:
        """Write down how far a notice has come: one that was sent everywhere is gone."""
        path = self._folder / f"{queued.notice.id}.json"
        if queued.pending:
            write_atomic(path, json.dumps(asdict(queued)), durable=False, mode=0o600)
        else:
            path.unlink(missing_ok=True)
            self._mark(queued).unlink(missing_ok=True)

    def first_told(self, queued: QueuedNotice) -> bool:
        """Tell whether nobody has been told yet that a notice could not be sent, and remember that somebody is now."""
        try:
            self._mark(queued).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Hold the right to send, waiting for who has it."""
        with hold_lock(self._folder / "lock"):
            yield

    def _files(self) -> Iterator[Path]:
        return self._folder.glob("*.json")

    def _mark(self, queued: QueuedNotice) -> Path:
        return self._folder / f"{queued.notice.id}.told"
