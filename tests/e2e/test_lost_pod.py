"""A pod that the cloud takes while its training runs, against the emulator of RunPod: the run goes on by itself."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.yard import Yard
from trainyard.clouds import open_cloud

# Long enough for its pod to be taken; the second one is left alone.
JOB = "echo going\nsleep 6\nmkdir -p $OUTPUT_DIR/model && echo done >$OUTPUT_DIR/model/m\n"


def test_a_run_on_a_cloud_that_takes_its_pod_goes_on_on_another_one_and_succeeds(yard: Yard, tmp_path: Path) -> None:
    script, settings = tmp_path / "job.sh", yard.root / "Pulumi.runpod.yaml"
    script.write_text(JOB)
    settings.write_text(settings.read_text() + "  trainyard:resume: 1\n")
    running = yard.start("rehearse", "--stack", "runpod", "--recipe", "command", "--set", f"script={script}", "--name", "r")
    base = yard.home / "rehearsal" / "runpod"
    runs = base / "checkout" / ".trainyard" / "runs" / "tester" / "r"
    log = runs / "1" / "train.log"
    yard.wait_for(lambda: log.is_file() and "going" in log.read_text())

    other_shell = yard.invoke("extend", "r", "1h").expect(3)
    assert "cannot change the end that a running pod keeps for itself" in other_shell.err
    assert "r is a run of the rehearsal of stack 'runpod' that is at work here" in other_shell.err

    emulator = json.loads((base / "cloud" / "rehearsal.json").read_text())
    address = f"http://127.0.0.1:{emulator['port']}"
    env = {"RUNPOD_API_KEY": emulator["key"], "RUNPOD_API_URL": f"{address}/v2", "RUNPOD_GRAPHQL_URL": f"{address}/graphql"}
    cloud = open_cloud("runpod", env, yard.places)
    cloud.terminate(cloud.list()[0].id)  # nobody here has asked for it: to the run it is the cloud's doing
    out, _ = running.communicate(timeout=200)

    assert running.returncode == 0, out
    assert "the pod of tester/r was lost: it goes on by itself (tries left, with this one: 1)" in out
    assert "tester/r has no checkpoint yet: it trains from its start" in out and "run tester/r (attempt 2) succeeded" in out
    first, second = (json.loads((runs / number / "run.json").read_text()) for number in "12")
    assert first["lost"] and first["resumes"] == 0 and second["resumes"] == 0
    assert second["spent_before"] > 0 and second["pod"]["pod_id"] != first["pod"]["pod_id"]
