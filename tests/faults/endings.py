"""How people lose a run: a CI job that is cancelled, a laptop that is gone for good."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from tests.faults import processes
from tests.faults.points import Scene
from tests.faults.trial import LABEL, TRAINING, Stage, Trial
from tests.faults.world import CloudYard
from trainyard.remote.transport import connect

INTERRUPT_TO_TERM, TERM_TO_KILL = 7.5, 2.5
"""What GitHub Actions gives a cancelled job."""
PREFLIGHT = 60.0
"""Seconds of lease below which nothing is started on a pod (playbooks/tasks/preflight.yml)."""


def cancelled_like_ci(stage: Stage, after: float, *, whole_tree: bool, lease: float) -> None:
    """SIGINT, 7.5 s later SIGTERM, 2.5 s later SIGKILL: nothing is left after the lease."""
    stage.yard.settings(hours=lease / 3600, rescue_minutes=0.05)
    child = stage.yard.start(*stage.yard.train("--name", LABEL, steps=600))
    time.sleep(after)
    seen = {p.pid: p for p in processes.tree(child.pid)}
    os.kill(child.pid, signal.SIGINT)
    for pause, number in ((INTERRUPT_TO_TERM, signal.SIGTERM), (TERM_TO_KILL, signal.SIGKILL)):
        until = time.monotonic() + pause
        while child.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        if child.poll() is None:
            seen |= {p.pid: p for p in processes.tree(child.pid)}
            os.kill(child.pid, number)
    if whole_tree:
        processes.kill(seen.values())
    stage.ended(child, "train (cancelled)", 60)
    hanging = processes.wait_until_gone([p for p in seen.values() if p.role != "other"], 60)
    stage.expect(not hanging, f"still runs: {[p.argv[:4] for p in hanging]}")
    time.sleep(3.0)  # a request that was under way has made its pod by now
    wait_for_the_end(stage)


def wait_for_the_end(stage: Stage, grace: float = 25.0) -> None:
    """Wait until no pod is left; none may be there long after its lease's end."""
    while pods := stage.world.pods():
        ends = stage.world.ends()
        if time.time() > max(ends.get(pod["id"], time.time()) for pod in pods) + grace:
            stage.problems.append(f"outlives its lease: {[pod['id'] for pod in pods]}")
            return
        time.sleep(0.1)


def lost_laptop(stage: Stage) -> None:
    """The controller's machine is gone; a second one with the API key and the SSH key fetches the result and ends the pod."""
    stage.yard.settings(hours=0.1)
    pod, key = train_and_lose(stage, steps=40)
    own = {"XDG_CONFIG_HOME": str(stage.world.base / f"c-{pod}"), "COLUMNS": "80"}  # a narrow screen shows the whole id all the same
    second = CloudYard(stage.world.base / f"second-{pod}", own, world=stage.world)
    stage.expect(not second.home.exists(), "the second machine knows something")
    listed = second.invoke("reap", "--stack", stage.yard.stack, "--dry-run")
    stage.story.append(listed.out + listed.err)
    stage.expect(listed.code == 0 and pod in listed.out and "leased" in listed.out, "the second machine does not list the pod")
    pinned = stage.world.infos()[pod].host_key is not None
    done = second.invoke("adopt", pod, "--stack", stage.yard.stack, "--key", str(key))
    stage.story.append(done.out + done.err)
    if not pinned:  # nothing of this cloud tells a pod's host key, and a second machine takes none on trust
        stage.expect(done.code == 5 and "host key" in done.out + done.err, f"adopt without a host key exited {done.code}")
        stage.expect(not second.invoke("end", pod, "--stack", stage.yard.stack).code, "the second machine cannot end the pod")
        return
    stage.expect(done.code == 0, f"adopt exited {done.code}")
    model = second.root / "out" / "tester" / LABEL / "model" / "model.txt"
    stage.expect(model.is_file() and model.read_text() == "steps 40\n", "the result did not come to the second machine")
    stage.expect(not stage.world.pods(), "adopt left the pod")
    stage.expect("engine builtin" in done.out and "SIMULATED" in done.out, "the summary does not say what served the run")


def lost_laptop_and_nobody_comes(stage: Stage) -> None:
    """The training ends by itself, the pod waits with its result until the lease's end, then it is gone."""
    stage.yard.settings(hours=(PREFLIGHT + 20) / 3600, rescue_minutes=0.1)
    pod, key = train_and_lose(stage, steps=20)
    address = stage.world.address(pod, key)
    until = time.monotonic() + 60
    ended = b""
    while not ended and time.monotonic() < until and pod in {r["id"] for r in stage.world.pods()}:
        with connect(address, timeout=15) as transport:
            ended = transport.exec("cat /workspace/job/exit && cat /workspace/output/model/model.txt", timeout=15).stdout
        time.sleep(0.3)
    stage.expect(ended.split()[-2:] == [b"steps", b"20"], f"the training did not end by itself: {ended!r}")
    end = stage.world.ends()[pod]
    while time.time() < end - 1.5:
        time.sleep(0.1)
    stage.expect(pod in {r["id"] for r in stage.world.pods()}, "the pod did not wait with its result until the end")
    wait_for_the_end(stage)


def train_and_lose(stage: Stage, steps: int) -> tuple[str, Path]:
    """Start a training, then lose the machine that started it; return the pod and the SSH key that its owner has elsewhere."""
    scene = Scene(stage.yard, time.time(), LABEL)
    child = stage.yard.start(*stage.yard.train("--name", LABEL, steps=steps))
    stage.world.wait_until(lambda: TRAINING(scene) or child.poll() is not None, 90, "the training never started")
    if not TRAINING(scene):
        stage.ended(child, "train")
        raise AssertionError("the training never started")
    (pod,) = scene.fresh()
    processes.kill(processes.tree(child.pid))
    stage.ended(child, "train (lost)", 30)
    key = stage.yard.base / "key-elsewhere"
    shutil.copy(stage.yard.home / "ssh" / stage.yard.stack / "id_ed25519", key)
    shutil.rmtree(stage.yard.home)
    return pod, key


def cancel_trial(after: float, *, whole_tree: bool = False, lease: float = PREFLIGHT + 20) -> Trial:
    """Return the trial of a CI job cancelled so many seconds after its start, under a lease of so many seconds."""
    what = "its whole tree" if whole_tree else "the controller"
    return Trial(
        f"CI cancel after {after:.2f} s, {what}", "SIGINT, 7.5 s, SIGTERM, 2.5 s, SIGKILL",
        own=lambda stage: cancelled_like_ci(stage, after, whole_tree=whole_tree, lease=lease), ends_itself=True,
    )  # fmt: skip


LAPTOP = Trial("lost laptop", "the controller's machine is gone for good", own=lost_laptop, least_pods=1, ssh=True)
NOBODY = Trial(
    "lost laptop, nobody comes", "nobody looks after the pod any more", own=lost_laptop_and_nobody_comes, least_pods=1, ends_itself=True,
    ssh=True,
)  # fmt: skip


def endings(seed: int) -> tuple[Trial, ...]:
    """Return all: the laptops, and CI jobs cancelled at random instants of each part of a run, drawn from a seed."""
    chance = random.Random(seed)
    parts = ((0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 8.0), (8.0, 12.0), (12.0, 16.0))
    return (LAPTOP, NOBODY, *(cancel_trial(chance.uniform(*part), whole_tree=whole) for part in parts for whole in (False, True)))
