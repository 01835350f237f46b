"""When a file of runs/ with a ``schedule`` is due: cron's five fields in a time zone, read by cronsim (extra ``schedules``)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from trainyard.errors import UserError

_STAMP = "%Y%m%dt%H%Mz"
STAMP = r"[0-9]{8}t[0-9]{4}z"
"""A due time in a run's label: 20261130t0300z, in UTC."""
_FIELDS = 5
_INSTALL = "In a checkout: ./bootstrap. Elsewhere: pipx install --force 'trainyard[schedules]', or the same with pip or uv."


@dataclass(frozen=True, slots=True)
class Schedule:
    """Due times as a cron line tells them in a time zone; with a zone that shifts its clock, as Debian's cron does."""

    cron: str
    zone: str

    def newest(self, now: float, since: float) -> float | None:
        """Return the newest due time that is not after ``now`` and after ``since`` (epoch seconds), None where there is none."""
        from cronsim import CronSim

        # Backwards from the next second: the moment itself counts.
        due = next(CronSim(self.cron, _local(int(now) + 1, self.zone), reverse=True), None)
        return due.timestamp() if due is not None and since < due.timestamp() <= now else None

    def next(self, now: float) -> float | None:
        """Return the next due time after ``now`` (epoch seconds), None where none is within fifty years."""
        from cronsim import CronSim

        due = next(CronSim(self.cron, _local(int(now), self.zone)), None)
        return None if due is None else due.timestamp()


def read_schedule(cron: str, zone: str | None) -> Schedule:
    """Return a schedule, UTC where no zone is named; raises UserError for a line that is none, one that is never due, an unknown zone."""
    try:
        from cronsim import CronSimError  # loaded by those alone who have a schedule
    except ImportError:
        raise UserError("a 'schedule' needs the package 'cronsim', which this Python does not have", hint=_INSTALL) from None
    zone = _zone(zone) if zone else "UTC"
    if len(cron.split()) != _FIELDS:
        message = f"'schedule' must have five fields, minute hour day month weekday, not {len(cron.split())}: '{cron}'"
        raise UserError(message, hint='Like "0 3 * * 1": Mondays at three.')
    try:
        schedule = Schedule(cron, zone)
        never = schedule.next(time.time()) is None
    except CronSimError as error:
        said = str(error)
        raise UserError(f"'schedule' '{cron}': {said[:1].lower()}{said[1:]}", hint='Like "0 3 * * 1": Mondays at three.') from None
    if never:
        raise UserError(f"'schedule' '{cron}' is never due", hint="No month has such a day.")
    return schedule


def _zone(zone: str) -> str:
    """Return the name of a time zone; raises UserError for one that this machine does not know."""
    try:
        return ZoneInfo(zone).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = "As in Europe/Berlin. A machine without any: apt-get install tzdata"
        raise UserError(f"'time_zone': '{zone}' is no time zone that this machine knows", hint=hint, facts={"key": "time_zone"}) from None


def stamp(due: float) -> str:
    """Return a due time as it stands in a label."""
    return time.strftime(_STAMP, time.gmtime(due))


def _local(moment: int, zone: str) -> datetime:
    return datetime.fromtimestamp(moment, UTC) if zone == "UTC" else datetime.fromtimestamp(moment, ZoneInfo(zone))
