"""Whatever the end of a training, what it left is kept before its pod is ended, and never taken for a success."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from tests.e2e.yard import JOBS, Yard, kill_tree

# A model that is excluded nowhere, two checkpoints, then the end that is asked for.
LEAVES = JOBS / "leaves.sh"


def words(tmp_path: Path, ending: str, *more: str, stack: str = "local", name: str = "a") -> tuple[str, ...]:
    script = tmp_path / "leaves.sh"
    script.write_text(LEAVES.read_text() + ending + "\n")
    return ("train", "--stack", stack, "--recipe", "command", "--set", f"script={script}", "--name", name, *more)


def sums(yard: Yard, name: str = "a") -> dict[str, str]:
    """Return what the training said that it left, by the sha256 of each file."""
    log = (yard.home / "runs" / "tester" / name / "1" / "train.log").read_text()
    lines = [line.split() for line in log.splitlines() if line.endswith((".bin", ".pt"))]
    return {name: digest for digest, name in lines}


def files(folder: Path) -> dict[str, str]:
    found = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.*") if p.is_file()}
    return {name: digest for name, digest in found.items() if name.endswith((".bin", ".pt"))}


ENDINGS = {
    "killed": ("kill -KILL $$", "exited 137"),
    "vanished": ("kill -KILL $(cat ../job/pid)", "has no verdict: lost: killed without a verdict (out of memory?)"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_after_a_failure_the_outputs_and_checkpoints_are_in_the_bucket_and_the_pod_is_gone(
    ending: str, shared_yard: Yard, tmp_path: Path
) -> None:
    yard, (command, why) = shared_yard, ENDINGS[ending]

    done = yard.invoke(*words(tmp_path, command, name=ending)).expect(1)

    assert yard.pods() == [] and f"run tester/{ending} failed" in done.out
    assert f"kept, NOT a success: {why}; " in done.out and "checkpoints/step-20" in done.out
    asked = next(line for line in done.out.splitlines() if line.startswith("invoke download")).split()
    got = yard.invoke(*asked[1:3], str(tmp_path / "got")).expect()
    assert "NOT a success" in got.out and "step-20" in got.out
    want = sums(yard, ending)
    assert files(tmp_path / "got") == want and len(want) == 3
    told = json.loads((yard.root / "out" / "tester" / ending / "run-summary.json").read_text())
    assert told["success"] is False and told["s3_url"].endswith(f"/models/tester/{ending}/1/") and told["kept"]["why"] == why


def test_without_a_bucket_what_a_failure_left_comes_home(yard: Yard, tmp_path: Path) -> None:
    (yard.root / "Pulumi.nobucket.yaml").write_text("config:\n  trainyard:cloud: local\n  trainyard:bucket: none\n")

    done = yard.invoke(*words(tmp_path, "exit 3", stack="nobucket")).expect(1)
    yard.invoke("destroy", "--stack", "nobucket", "--yes").expect()

    home = yard.root / "out" / "tester" / "a"
    assert files(home) == sums(yard) and (home / "status.json").is_file() and json.loads((home / "_KEPT").read_text())["exit_code"] == 3
    assert "kept, NOT a success: exited 3" in done.out and f"Result: {home}" in done.out


def test_what_cannot_be_kept_keeps_its_pod_and_is_told_and_the_next_attach_brings_it_to_safety(yard: Yard, tmp_path: Path) -> None:
    # Both ways are shut: in the bucket lies another run's result, and what lies at home in the result's place is no folder.
    running = yard.start(*words(tmp_path, "while [ ! -e $WORKSPACE/go ]; do sleep 0.1; done; exit 1"))
    yard.wait_for(lambda: yard.record("a").get("phase") == "started")
    (bucket,) = (yard.base / "o" / "store" / "data").glob("trainyard-*")
    foreign = bucket / "models" / "tester" / "a" / "1" / "_SUCCESS"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"token": "feedfeedfeed", "manifest_sha256": "0"}')
    home = yard.root / "out" / "tester" / "a"
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text("")
    yard.invoke("ssh", "a", "--", "touch", "$WORKSPACE/go").expect()

    out, _ = running.communicate(timeout=100)

    assert running.returncode == 6 and len(yard.pods()) == 1, out
    assert "invoke attach tester/a" in out and yard.pods()[0] in out and "belongs to another run: its token is 'feedfeed'" in out

    foreign.unlink()
    home.unlink()
    done = yard.invoke("attach", "a").expect(1)
    assert "kept, NOT a success: exited 1" in done.out and yard.pods() == []
    yard.invoke("download", "tester/a", str(tmp_path / "got")).expect()
    assert files(tmp_path / "got") == sums(yard)


def test_a_stop_by_the_watchdog_with_no_controller_waits_on_the_pod_for_the_next_one_which_keeps_it(yard: Yard, tmp_path: Path) -> None:
    running = yard.start(*words(tmp_path, "trap 'exit 75' TERM; while :; do sleep 0.2; done"))
    log = yard.home / "runs" / "tester" / "a" / "1" / "train.log"
    yard.wait_for(lambda: log.is_file() and "left" in log.read_text())
    kill_tree(running)
    # What the watchdog does at the lease's stop or when the budget is used up (tests/pod).
    yard.invoke("ssh", "a", "--", "kill -TERM -- -$(cat $WORKSPACE/job/pid)").expect()
    assert yard.wait_for(lambda: yard.invoke("ssh", "a", "--", "cat", "$WORKSPACE/job/exit").out.strip()) == "75"
    assert len(yard.pods()) == 1

    done = yard.invoke("attach", "a").expect(1)

    assert "run tester/a stopped" in done.out and "kept, NOT a success: told to stop (its lease's stop, or its budget)" in done.out
    yard.invoke("download", "a", str(tmp_path / "got")).expect()
    assert files(tmp_path / "got") == sums(yard) and yard.pods() == []


def test_a_training_that_does_not_listen_is_stopped_in_time_to_keep_what_it_left(yard: Yard, tmp_path: Path) -> None:
    running = yard.start(*words(tmp_path, "trap '' TERM; while :; do sleep 0.2; done"))
    log = yard.home / "runs" / "tester" / "a" / "1" / "train.log"
    yard.wait_for(lambda: log.is_file() and "left" in log.read_text())
    kill_tree(running)
    # Its lease is as good as over: 6 s are left, half of them to save.
    path = yard.home / "runs" / "tester" / "a" / "1" / "run.json"
    record, now = json.loads(path.read_text()), time.time()
    record["pod"] |= {name: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + at)) for name, at in (("stop", -60), ("end", 6))}
    path.write_text(json.dumps(record))

    done = yard.invoke("attach", "a").expect(1)

    assert "its lease's stop has come: the training is stopped and saved" in done.out
    assert "kept, NOT a success: exited 137" in done.out and yard.pods() == []
    yard.invoke("download", "a", str(tmp_path / "got")).expect()
    assert files(tmp_path / "got") == sums(yard)
