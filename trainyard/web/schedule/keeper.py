"""Keeps the schedule of one server: begins what is due and nobody does, and writes down how it went."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import structlog

from trainyard.errors import TrainyardError
from trainyard.ledger.duties import DutyOutcome, DutyRow, DutyRows
from trainyard.processes import start_mark, tied
from trainyard.secret import hide
from trainyard.web.schedule.duties import DUTIES, Duty
from trainyard.web.site import Site
from trainyard.web.work import settle

LAPSE = 120.0
"""Seconds without a word after which the holder of a duty on another machine counts as dead; clocks may differ by less."""
_LOOK = 1.0
_SAID = 4096
_KEPT = 30 * 86_400.0
"""Seconds for which a token that proves nobody any more is still listed."""


class ScheduleKeeper:
    """One server's part in the schedule. What it has begun is killed with the server, and the next one goes on from there."""

    def __init__(self, site: Site, duties: Sequence[Duty] = DUTIES) -> None:
        self.site, self.duties = site, duties
        self.rows = DutyRows(site.ledger.database)
        self.place = f"{_process(os.getpid())} {uuid.uuid4().hex[:8]}"
        """Holds a duty from when it is taken until its process is known."""
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)
        self._log = structlog.get_logger("schedule")

    def start(self) -> None:
        """Begin to keep it."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Tell whether it is kept."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it, and what it has begun: by a kill, which every verb goes on from; a SIGTERM takes a run down that has no training yet."""
        self._over.set()
        self._thread.join()
        for process in self.started.values():
            process.kill()
            process.wait()
        self._look()

    def look(self) -> None:
        """Begin what is due and nobody does; say of what is done that it lives, and of what has ended how."""
        rows = self.rows.all()
        for duty in self.duties:
            row = rows.get(duty.name, DutyRow(name=duty.name))
            if row.holder is None:
                if not self._over.is_set() and (row.ended is None or self.site.now() - row.ended >= duty.every):
                    self._begin(duty, row)
            elif self._is_over(row):
                code = self._code(duty.name)
                outcome: DutyOutcome = (
                    "ended" if self._over.is_set() else "died" if code is None or code < 0 else "failed" if code else "done"
                )
                self.rows.end(row, self.site.now(), outcome, self._said(duty.name))
            elif _host(row) == socket.gethostname() and row.until - self.site.now() < LAPSE / 2:
                self.rows.beat(duty.name, str(row.holder), self.site.now() + LAPSE)

    def _look(self) -> None:
        try:
            self.look()
            settle(self.site)
            self.site.tokens.sweep(self.site.now() - _KEPT)
        except (OSError, TrainyardError) as error:  # the ledger may answer again: what is at work goes on meanwhile
            self._log.warning("schedule", error=hide(str(error)))

    def _run(self) -> None:
        while not self._over.wait(_LOOK):
            self._look()

    def _begin(self, duty: Duty, row: DutyRow) -> None:
        now = self.site.now()
        if not self.rows.take(row, self.place, now, now + LAPSE):
            return
        with self._log_of(duty.name).open("wb") as log:
            words = tied([sys.executable, "-m", "trainyard", *duty.words])
            process = subprocess.Popen(
                words, cwd=self.site.context.places.root, env=self.site.environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.started[duty.name] = process
        self.rows.hand(duty.name, self.place, _process(process.pid))

    def _is_over(self, row: DutyRow) -> bool:
        if _host(row) != socket.gethostname():
            return row.until < self.site.now()
        _, pid, mark, *_ = str(row.holder).split(" ")
        process = self.started.get(row.name)
        if row.holder == self.place or (process is not None and process.pid == int(pid)):  # taken and not handed on; or begun
            return process is None or process.poll() is not None
        return start_mark(int(pid)) != mark

    def _code(self, name: str) -> int | None:
        """Return the exit code of what this server has begun; nobody knows that of another's process."""
        process = self.started.pop(name, None)
        return None if process is None else process.poll()

    def _log_of(self, name: str) -> Path:
        folder = self.site.context.places.logs
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"duty-{name}.log"

    def _said(self, name: str) -> str:
        try:
            return hide(self._log_of(name).read_bytes()[-_SAID:].decode(errors="replace"))
        except OSError:
            return ""


def _process(pid: int) -> str:
    return f"{socket.gethostname()} {pid} {start_mark(pid)}"


def _host(row: DutyRow) -> str:
    return str(row.holder).split(" ", 1)[0]
