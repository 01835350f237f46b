"""A rehearsal says at its start what the real run would do in another way."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.config import places
from trainyard.rehearsal.session import other_road
from trainyard.settings.table import build

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


@pytest.mark.parametrize(
    ("settings", "env", "says"),
    [
        ({}, {}, "no store's keys are set"),
        ({"bucket": "none"}, KEYS, "bucket: none"),
        ({}, KEYS, None),
        ({"bucket": "mine"}, {}, None),
    ],
)
def test_it_is_said_where_the_real_run_has_no_bucket(
    settings: dict[str, object], env: dict[str, str], says: str | None, tmp_path: Path
) -> None:
    line = other_road(build({"cloud": "runpod", **settings}, "runpod"), env, places(tmp_path, env))

    assert line is None if says is None else says in str(line) and "over SSH" in str(line)
