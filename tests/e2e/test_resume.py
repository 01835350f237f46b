"""A run goes on from its newest checkpoint on real pods: also from a fresh clone that has no record of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.yard import JOBS, Yard

COUNTS = JOBS / "counts.sh"


@pytest.fixture
def clone(yard: Yard) -> Iterator[Yard]:
    """A fresh clone on the same machine: the same cloud, store and keys, and no record of any run."""
    made = Yard(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")), {k: yard.env[k] for k in ("TRAINYARD_LOCAL_ROOT", "XDG_CONFIG_HOME")})
    yield made
    shutil.rmtree(made.base, ignore_errors=True)


def test_a_run_that_failed_here_goes_on_in_a_fresh_clone_from_the_bucket_alone(yard: Yard, clone: Yard) -> None:
    words = ("train", "--stack", "local", "--recipe", "command", "--set", f"script={COUNTS}", "--set", "args=2", "--name", "a")
    failed = yard.invoke(*words, "--json").expect(1).json()
    assert failed["resume"] == "invoke resume tester/a" and failed["checkpoint"] == "step-2"

    done = clone.invoke("resume", "tester/a", "--set", "args=never").expect()

    assert "resume     tester/a from step-2 of attempt 1, 1 files, proven" in done.out and "attempt 2" in done.out
    log = (clone.home / "runs" / "tester" / "a" / "2" / "train.log").read_text()
    assert "from 2\n" in log and "step 3\n" in log and "step 2\n" not in log
    (bucket,) = (yard.base / "o" / "store" / "data").glob("trainyard-*")
    assert (bucket / "models" / "tester" / "a" / "2" / "model" / "last").read_text() == "5\n"
    # What the other clone ran is seen, held against this one's, and run again from the bucket alone.
    page = clone.invoke("show", "tester/a/1", "--json").expect().json()
    assert not page["here"] and page["state"] == "failed" and page["snapshot"]["trainyard"] and page["values"]["args"] == ["2"]
    assert {"prepared", "rented", "started", "failed"} <= {event["kind"] for event in page["events"]}
    compared = clone.invoke("compare", "tester/a/1", "tester/a/2", "--json").expect().json()
    assert [row["differing"]["args"] for row in compared] == ["2", "never"]
    assert clone.invoke("rerun", "tester/a/1", "--name", "b", "--json").expect(1).json()["checkpoint"] == "step-2"
    assert clone.invoke("diff", "tester/a/1", "tester/b", "--json").expect().json()["code"] == []
    assert yard.pods() == []
