"""`invoke store.stop` says which runs of this repository need the server that it stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.road import Road
from trainyard.runs.records.parts import RunBucket, RunResult
from trainyard.runs.verbs.storestop import stop
from trainyard.storage import local


@pytest.mark.parametrize(
    ("phase", "owed", "store", "named"),
    [("started", False, "local", True), ("ended", True, "local", True), ("ended", False, "local", False), ("started", False, "s3", False)],
)
def test_runs_that_still_need_the_local_server_are_named(
    phase: str, owed: bool, store: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = Road(tmp_path, monkeypatch)
    monkeypatch.setattr(local, "stop", lambda _: True)
    folder = road.prepare(name="a")
    folder.save(replace(folder.load(), phase=phase, bucket=RunBucket("b", store), result=RunResult(owed=owed)))  # type: ignore[arg-type]

    assert stop(road.context) is True
    assert ("ann/a/1" in road.said()) is named
