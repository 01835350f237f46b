"""Moments are written in one form, and read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from trainyard.clock import format_time, parse_iso, parse_time

MOMENT = datetime(2026, 11, 24, 3, 0, 0, tzinfo=UTC)


def test_a_moment_is_written_in_utc_and_read_back() -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert format_time(MOMENT) == format_time(elsewhere) == format_time(MOMENT.timestamp()) == "2026-11-24T03:00:00Z"
    assert parse_time(format_time(MOMENT)) == MOMENT
    assert format_time(None) is None


@pytest.mark.parametrize("text", [None, "", "None", "2026-11-24", "2026-11-24T03:00:00", "2026-13-24T03:00:00Z"])
def test_what_is_no_moment_of_ours_is_none(text: str | None) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T03:00:00Z", MOMENT),
        ("2026-11-24T04:00:00.5+01:00", MOMENT + timedelta(seconds=0.5)),
        ("2026-11-24T03:00:00", MOMENT),
        ("soon", None),
        (None, None),
        ("0001-01-01T00:00:00+05:00", None),
    ],
)
def test_moments_that_others_wrote_are_read_in_every_form_of_the_standard(text: object, moment: datetime | None) -> None:
    assert parse_iso(text) == moment
