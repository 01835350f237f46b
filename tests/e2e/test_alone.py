"""A controller that never comes back: the pod commits alone, ends itself, and any clone of the repository seals the result."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.yard import Yard, kill_tree
from trainyard.clock import parse_time
from trainyard.clouds import open_cloud
from trainyard.rehearsal.session import rehearsal


class Clone(Yard):
    """Another clone of the same repository: the same settings and cloud, and no record of any run."""

    @property
    def root(self) -> Path:
        return self.base / "w2"


class Rehearsed(Yard):
    """A checkout inside a rehearsal, with the environment of its emulator."""

    def __init__(self, base: Path, env: Mapping[str, str], root: Path) -> None:
        self.own_env, self.own_root = dict(env), root
        self.base, self.extra, self.started = base, {}, []

    @property
    def root(self) -> Path:
        return self.own_root

    @property
    def env(self) -> dict[str, str]:
        return self.own_env


def lone(yard: Yard, *words: str, minutes: str = "0.03", **more: float) -> None:
    """Train, kill the controller for good once the pod has its plan, and wait until the pod has ended itself.

    A training that must not end before that waits for $WORKSPACE/go.
    """
    settings = yard.root / "Pulumi.local.yaml"
    settings.write_text(settings.read_text() + f"  trainyard:commit_alone_minutes: {minutes}\n")
    running = yard.start(*yard.train("--name", "a", *words, **more))  # type: ignore[arg-type]
    yard.wait_for(lambda: yard.record("a").get("commits_alone"))
    kill_tree(running)
    yard.invoke("ssh", "a", "--", "touch", "$WORKSPACE/go").expect()
    yard.wait_for(lambda: not yard.pods())


def test_a_lost_laptop_costs_no_result_and_no_rest_of_the_lease(yard: Yard) -> None:
    script = yard.base / "fails.sh"
    # However slow the machine is: a controller that sees the end commits it itself, and nothing is left to seal.
    waits = 'while [ ! -e "$WORKSPACE/go" ]; do sleep 0.1; done'
    script.write_text(f'mkdir -p "$OUTPUT_DIR/model"; echo half >"$OUTPUT_DIR/model/a"; {waits}; echo no more; exit 3\n')
    lone(yard, "--set", f"script={script}")
    clone = Clone(yard.base, yard.extra)

    said = clone.invoke("recover").expect(1)  # the clone finishes the story of a training that failed
    summary = yard.invoke("attach", "a", "--json").expect(1).json()

    assert "sealed     tester/a/1: kept (no success)" in said.out
    assert not summary["success"] and summary["kept"]["why"] == "exited 3" and summary["kept"]["exit_code"] == 3
    assert "no more" in (yard.home / "runs/tester/a/1/train.log").read_text().splitlines()
    assert yard.record("a")["phase"] == "ended" and yard.pods() == []


def test_on_a_rehearsed_runpod_the_pod_ends_itself_with_its_own_key_and_another_clone_seals(yard: Yard, tmp_path: Path) -> None:
    settings = yard.root / "Pulumi.runpod.yaml"
    settings.write_text(settings.read_text().rstrip("\n") + "\n  trainyard:commit_alone_minutes: 0.03\n")
    with rehearsal("runpod", yard.places, yard.env) as world:
        here = Rehearsed(yard.base, world.env, world.root)
        running = here.start("train", "--stack", "runpod", *yard.train("--name", "a", steps=8, pause=0.5)[3:])
        yard.wait_for(lambda: here.record("a").get("commits_alone"))
        kill_tree(running)
        cloud = open_cloud("runpod", world.env, here.places)

        def is_gone() -> bool:
            time.sleep(0.5)  # RunPod counts requests, and the pod makes some itself
            return not cloud.list()

        yard.wait_for(is_gone)
        gone = time.time()

        other = world.root.with_name("clone")
        shutil.copytree(world.root, other, symlinks=True, ignore=shutil.ignore_patterns(".trainyard", "out"))
        places = {"TRAINYARD_PROJECT_DIR": str(other), "TRAINYARD_HOME": str(other / ".trainyard")}
        clone = Rehearsed(yard.base, {**world.env, **places}, other)
        said = clone.invoke("recover").expect()
        clone.invoke("download", "tester/a", str(tmp_path / "got"), "--stack", "runpod", "--whole").expect()
        done = here.invoke("attach", "a", "--json").expect().json()

    assert "sealed     tester/a/1: committed" in said.out
    assert (tmp_path / "got/model/model.txt").read_text() == "steps 8\n"
    assert (tmp_path / "got/model/weights.bin").read_bytes() == bytes(300000)
    assert done["success"] and done["simulated"] and done["road_why"] == "the pod committed it alone"
    ended = parse_time(done["pods"][0]["ended_at"])
    assert ended is not None and ended.timestamp() <= math.ceil(gone), "nobody pays for the time until somebody came back"
