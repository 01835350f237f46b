"""A lease that `invoke extend` has moved while another process drives the run: the cloud's own word says where it stands now.

``lease.json`` in the run's folder only says that somebody moves it: written before the cloud is asked and again afterwards, so
that a killed extend leaves no process with a belief of its own.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

from trainyard.clock import format_time, parse_time
from trainyard.errors import CloudError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunFolder, RunRecord, write_json

_AGAIN = 15.0
"""Seconds between two questions of a cloud that does not answer, or says what was known."""


def mark_moving(folder: RunFolder, hours: float, *, done: bool) -> None:
    """Leave word that the lease is being moved to so many hours, or was."""
    write_json(_mark(folder), {"hours": hours, "done": done, "time": time.time()})


def take_over(context: CommandContext, record: RunRecord) -> bool:
    """Take stop and end of the pod as its cloud tells them into the record; True when they had changed. Raises CloudError."""
    info = context.cloud_of(record).get(str(record.pod.pod_id))
    if info is None or info.end is None or info.stop is None:
        return False
    stop, end = format_time(info.stop), format_time(info.end)
    if (stop, end) == (record.pod.stop, record.pod.end):
        return False
    before = parse_time(record.pod.stop)
    if before is not None:
        record.hours = round(record.hours + (info.stop - before).total_seconds() / 3600, 6)
    record.pod = replace(record.pod, stop=stop, end=end)
    return True


def take_begun(context: CommandContext, record: RunRecord) -> bool:
    """Take stop and end of a pod whose lease's hours begin with its machine, as its cloud tells them; True when they had changed.

    A job that a cluster begins anew has its hours anew. Who sends its files is told with them.
    """
    cloud = context.cloud_of(record)
    with contextlib.suppress(CloudError):
        info = cloud.get(str(record.pod.pod_id)) if cloud.capabilities.queues else None
        times = (format_time(info.stop), format_time(info.end)) if info is not None and info.end is not None else None
        if times is not None and times != (record.pod.stop, record.pod.end):
            sends = info.ssh.sending if info is not None and info.ssh is not None else ()
            record.pod = replace(record.pod, stop=times[0], end=times[1], send_command=sends or record.pod.send_command)
            return True
    return False


class LeaseWatch:
    """Notices, for who drives a run, that its lease was moved."""

    def __init__(self, context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
        self.context, self.record, self.folder = context, record, folder
        self.seen = 0.0
        self.asked = 0.0

    def look(self, *, due: bool = False) -> bool:
        """Tell whether the lease has moved since; ``due``: something is about to be done because its time has come."""
        stamp = self._stamp()
        now = time.monotonic()
        if due and not stamp and now - self.asked > _AGAIN:
            self.asked = now
            return take_begun(self.context, self.record)
        if not stamp or (stamp == self.seen and not (due and now - self.asked > _AGAIN)):
            return False
        self.asked = now
        with contextlib.suppress(CloudError):
            moved = take_over(self.context, self.record)
            self.seen = stamp
            if moved:
                self.folder.save(self.record)
                self.context.ui.say(f"lease      moved: its stop is now {self.record.pod.stop}, its end {self.record.pod.end}")
            return moved
        return False

    def _stamp(self) -> float:
        try:
            return _mark(self.folder).stat().st_mtime
        except OSError:
            return 0.0


def _mark(folder: RunFolder) -> Path:
    return folder.path / "lease.json"
