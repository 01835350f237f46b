"""A sweep on the stack local, with real pods, SSH and bucket: killed in the middle, it goes on by the same command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.yard import Yard, kill_tree

JOB = """#!/bin/sh
for step in 1 2 3 4 5 6; do
  echo '{"step": '$step', "total_steps": 6, "loss": '$1.$((9 - step))'}' >>"$OUTPUT_DIR/metrics.jsonl"
  sleep 0.5
done
mkdir -p "$OUTPUT_DIR/model"; echo "$1" >"$OUTPUT_DIR/model/m.txt"
"""


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.close()


def test_a_sweep_killed_in_the_middle_goes_on_by_the_same_command_and_its_best_trial_is_fetched_as_shown(yard: Yard) -> None:
    job = yard.base / "job.sh"
    job.write_text(JOB)
    words = ["train", "--recipe", "command", "--set", f"script={job}", "--set", "args={x}", "--sweep", "x=2,1", "--name", "s"]
    killed = yard.start(*words)
    yard.wait_for(lambda: any(yard.record(f"s-{number}").get("phase") == "started" for number in (1, 2)))
    kill_tree(killed)

    done = yard.invoke(*words).expect(0)
    shown = yard.invoke("sweep", "s", "--json").expect(0).json()

    assert [(one["number"], one["state"], one["value"]) for one in shown["trials"]] == [(2, "succeeded", 1.3), (1, "succeeded", 2.3)]
    assert yard.pods() == [] and not list(yard.home.glob("runs/tester/*/2")), "nothing is run twice"
    fetch = re.search(r"^fetch it   invoke (.*)$", done.out, re.MULTILINE)
    assert fetch is not None and shown["best"] == "tester/s-2", done.out
    yard.invoke(*fetch[1].split()).expect(0)
    assert [path.read_text() for path in (yard.root / "out/downloads/s-2").rglob("m.txt")] == ["1\n"]
