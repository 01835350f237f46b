"""A run on a machine that has joined a server by a token: the whole road, from the token to the proven result."""

from __future__ import annotations

import json
import re

from tests.e2e.yard import COUNT, Yard


def test_a_run_trains_on_a_machine_that_has_joined_and_its_result_is_proven(yard: Yard) -> None:
    settings = yard.root / "Pulumi.ssh.yaml"
    settings.write_text(settings.read_text() + "  trainyard:regions: ['worker=lab']\n")
    server = yard.start("serve", "--port", "0", "--no-schedule")
    url = ""
    for line in yard.output(server):
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/login", line):
            url = found[1]
            break
    token = yard.base / "token"
    token.write_text(yard.invoke("worker.add", "lab").expect().out)
    worker = yard.start("worker", "--join", url, "--token-file", str(token), "--folder", str(yard.base / "lab"))
    yard.wait_for(lambda: "joined" in yard.output(worker).readline())
    yard.wait_for(lambda: yard.invoke("workers", "--json").expect().json()[0]["state"] == "ready")

    done = yard.invoke(
        "train", "--stack", "ssh", "--recipe", "command", "--set", f"script={COUNT}", "--set", "args=3 0.05", "--name", "a", "--yes"
    )
    print(done.out, done.err)
    assert done.code == 0
    summary = json.loads((yard.home / "runs/tester/a/1/run-summary.json").read_text())
    assert summary["success"]
    yard.invoke("worker.drain", "lab").expect()
    worker.communicate(timeout=60)
    assert worker.returncode == 0
    server.terminate()
