"""A rented pod while its controller lacks the cloud's key, and a pod that the cloud takes away."""

from __future__ import annotations

from tests.e2e.yard import kill_tree
from tests.faults.world import world


def test_without_the_clouds_key_a_run_is_left_alone_and_a_pod_that_the_cloud_takes_is_no_verdict_of_the_training() -> None:
    with world() as account:
        yard = account.yard()
        running = yard.start(*yard.train("--name", "a", steps=6000))
        yard.wait_for(lambda: yard.record("a").get("phase") == "started")
        kill_tree(running)
        (pod,) = (record["id"] for record in account.pods())

        yard.extra = {"RUNPOD_API_KEY": ""}
        for verb in (("recover",), ("attach", "a")):
            done = yard.invoke(*verb).expect(6)
            told = done.err + done.out
            assert "RUNPOD_API_KEY" in told and pod in told and "/h until the end of its lease" in told and "invoke attach tester/a" in told
            assert yard.record("a")["error"] is None and [record["id"] for record in account.pods()] == [pod]

        yard.extra = {}
        (yard.home / "runs/tester/a/1/run.json").write_text('{"user": ')
        told = yard.invoke("attach", "a").expect(6).err
        assert "run.json" in told and f"invoke adopt POD --stack runpod --key {yard.home / 'ssh/runpod/id_ed25519'}" in told
        assert f"{pod} " in yard.invoke("reap", "--all-stacks", "--dry-run").expect().out
        attached = yard.start("adopt", pod, "--stack", "runpod", "--key", str(yard.home / "ssh/runpod/id_ed25519"))
        yard.wait_for(lambda: "phase" in (yard.home / "runs/tester/a/1/run.json").read_text())
        yard.wait_for(lambda: b"step" in (yard.home / "runs/tester/a/1/train.log").read_bytes())
        account.emulator.fleet.delete(pod, "taken away by the cloud")
        out, _ = attached.communicate(timeout=90)

        assert attached.returncode == 4 and f"the cloud says that pod {pod} is gone" in out, out
        assert yard.record("a")["phase"] == "ended" and yard.invoke("runs", "--json").json()[0]["state"] == "failed"
