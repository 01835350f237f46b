"""``python -m tests.faults.slurm [--cases N] [--seed S] [--case TEXT]``: whole runs on a real Slurm, each with something that goes wrong.

A case is a fault and an instant. The judge is the cluster's own queue, the program's own diary of its starts (kept outside of
everything) and the bucket: nothing may be left in the queue, no training may have run twice at once or been lost, and a run that
succeeded has its result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.e2e.yard import Yard, kill_tree
from tests.servers import slurm
from trainyard.clouds.slurm.login import REHEARSAL
from trainyard.rehearsal.slurm.cluster import ClusterSize, SlurmCluster
from trainyard.storage import local

LABEL = "r"
_PATIENCE = 150.0
"""Seconds for a command to come to its end, on a machine that has little else to do."""
PROGRAM = """#!/bin/sh
# Counts; keeps a diary of its starts and ends; goes on from its newest checkpoint.
echo "begin $$ ${TRAINYARD_RESUME##*/}" >>"$DIARY"
trap 'echo "told $$" >>"$DIARY"; exit 143' TERM
step=0
[ -z "${TRAINYARD_RESUME:-}" ] || step=${TRAINYARD_RESUME##*-}
while [ "$step" -lt 12 ]; do
  sleep 0.5 & wait $!
  step=$((step + 1))
  mkdir -p "$OUTPUT_DIR/checkpoints/step-$step" && echo "$step" >"$OUTPUT_DIR/checkpoints/step-$step/state"
done
mkdir -p "$OUTPUT_DIR/model" && echo done >"$OUTPUT_DIR/model/weights.txt"
echo "end $$" >>"$DIARY"
"""


@dataclass(frozen=True, slots=True)
class SlurmCase:
    """What goes wrong, and how many seconds after the command was typed."""

    fault: str
    after: float

    def __str__(self) -> str:
        return f"{self.fault}@{self.after:.1f}"


@dataclass(slots=True)
class SlurmWorld:
    """A cluster, and people who work on it."""

    base: Path
    cluster: SlurmCluster
    count: int = 0
    last: Yard | None = None

    def yard(self) -> Yard:
        """Return a fresh checkout whose stack leads to the cluster."""
        self.count += 1
        base = self.base / f"y{self.count}"
        base.mkdir()
        yard = Yard(base, {**self.cluster.env, "TRAINYARD_LOCAL_ROOT": str(self.base / "o")})
        (yard.root / "Pulumi.slurm.yaml").write_text(
            f"config:\n  trainyard:cloud: slurm\n  trainyard:login: {REHEARSAL}\n  trainyard:workspace: {base}/jobs\n"
            f"  trainyard:pod_env: {{DIARY: {base}/diary}}\n  trainyard:store: local\n"
            f"  trainyard:internet: {'login' if self.count % 2 else 'nodes'}\n"
            "  trainyard:queue_hours: 0.5\n  trainyard:hours: 1\n  trainyard:rescue_minutes: 2\n"
        )
        (base / "count.sh").write_text(PROGRAM)
        self.last = yard
        return yard

    def queue(self) -> list[str]:
        """Return the jobs that wait or run."""
        return self.cluster.run("squeue", "-h", "-o", "%i %j %T").splitlines()

    def ours(self) -> str | None:
        """Return the id of a job that there is."""
        return next((line.split()[0] for line in self.queue()), None)


def _kill(world: SlurmWorld, process: object, yard: Yard) -> None:
    if process.poll() is None:  # type: ignore[attr-defined]
        kill_tree(process)  # type: ignore[arg-type]


def _cancel(world: SlurmWorld, process: object, yard: Yard) -> None:
    if (job := world.ours()) is not None:
        world.cluster.run("scancel", job)


def _requeue(world: SlurmWorld, process: object, yard: Yard) -> None:
    if (job := world.ours()) is not None:
        world.cluster.run("scontrol", "requeue", job, check=False)
        for _ in range(40):
            world.cluster.run("scontrol", "update", f"job={job}", "StartTime=now", check=False)
            time.sleep(0.25)


def _node_fails(world: SlurmWorld, process: object, yard: Yard) -> None:
    node = world.cluster.run("sinfo", "-h", "-o", "%n").split()[0]
    world.cluster.run("scontrol", "update", f"node={node}", "state=down", "reason=fault", check=False)
    for _ in range(40):
        time.sleep(0.5)
        if world.cluster.run("sinfo", "-h", "-o", "%T", check=False).startswith(("down", "drain", "comp")):
            world.cluster.run("scontrol", "update", f"node={node}", "state=resume", check=False)
        if (job := world.ours()) is not None:
            # A start on a node that is not back yet puts the job on hold; releasing it is somebody's who looks.
            world.cluster.run("scontrol", "release", job, check=False)
            world.cluster.run("scontrol", "update", f"job={job}", "StartTime=now", check=False)


def _controller_down(world: SlurmWorld, process: object, yard: Yard) -> None:
    world.cluster.stop("slurmctld")
    time.sleep(6)
    world.cluster.start("slurmctld")


FAULTS: dict[str, Callable[[SlurmWorld, object, Yard], None]] = {
    "kill": _kill, "scancel": _cancel, "requeue": _requeue, "node": _node_fails, "slurmctld": _controller_down,
}  # fmt: skip


@contextmanager
def world() -> Iterator[SlurmWorld]:
    """Run a cluster while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="tyl-", dir="/tmp") as text:
        size = ClusterSize(more=("MessageTimeout=2", "SlurmctldTimeout=5"))
        with slurm.serve(Path(text) / "cluster", size) as cluster:
            made = SlurmWorld(Path(text), cluster)
            try:
                yield made
            finally:
                if made.last is not None:
                    local.stop(made.last.places)


def run(world: SlurmWorld, case: SlurmCase) -> list[str]:
    """Run one case and return what was wrong."""
    yard = world.yard()
    script = yard.base / "count.sh"
    words = ("train", "--stack", "slurm", "--recipe", "command", "--set", f"script={script}", "--name", LABEL, "--yes")
    process = yard.start(*words)
    lines: list[str] = []
    threading.Thread(target=_listen, args=(yard.output(process), lines), daemon=True).start()
    until = time.monotonic() + case.after
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    FAULTS[case.fault](world, process, yard)
    until = time.monotonic() + _PATIENCE * max(1.0, os.getloadavg()[0] / (2 * (os.cpu_count() or 1)))
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    problems, said = [], ""
    if process.poll() is None:
        problems.append("the command did not come to an end")
        kill_tree(process)
    if case.fault == "kill" or problems:
        for _ in range(3):
            done = yard.invoke("recover", timeout=200)
            said += done.out + done.err
            if done.code == 0:
                break
        else:
            problems.append(f"recover ends with {done.code}")
    problems += judge(world, yard, case)
    if problems:
        problems.append("".join(lines)[-1500:] + said[-1500:])
    return problems


def story(world: SlurmWorld) -> str:
    """Return in a few words what became of the last case's run."""
    base = world.base / f"y{world.count}"
    diary = (base / "diary").read_text() if (base / "diary").exists() else ""
    path = base / "w" / ".trainyard" / "runs" / "tester" / LABEL / "1" / "run.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    how = "success" if record.get("result") and not record.get("error") else str(record.get("error") or "no record")[:70]
    return f"{diary.count('begin')} begun, {diary.count('end')} done, {how}"


def _listen(output: IO[str], lines: list[str]) -> None:
    with contextlib.suppress(ValueError, OSError):
        lines += output


def judge(world: SlurmWorld, yard: Yard, case: SlurmCase) -> list[str]:
    """Return what is wrong when all is over."""
    problems = []
    if left := world.queue():
        problems.append(f"left in the queue: {left}")
        for line in left:
            world.cluster.run("scancel", line.split()[0], check=False)
    diary_path = yard.base / "diary"
    diary = diary_path.read_text().split("\n") if diary_path.exists() else []
    begins = [line for line in diary if line.startswith("begin")]
    ends = [line for line in diary if line.startswith("end")]
    if len(begins) > 1 and case.fault not in ("requeue", "node"):
        problems.append(f"the training has run twice: {diary}")
    if len(ends) > 1:
        problems.append(f"it has come to its end twice: {diary}")
    record = yard.record(LABEL)
    committed = record.get("result") is not None and record.get("training_success") is not False
    if ends and case.fault != "scancel" and not committed:
        problems.append(f"a training that was done has no result: {record.get('error')}")
    if begins and case.fault in ("requeue", "node", "slurmctld") and not ends:
        problems.append(f"the training did not come to its end: {diary}, {record.get('error')}")
    if record and record.get("phase") != "ended":
        problems.append(f"the run is '{record.get('phase')}'")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.slurm", description=__doc__)
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--case", action="append", default=[], help="one case, as a failing one prints it (may be repeated)")
    asked = parser.parse_args(arguments)
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    cases = [SlurmCase(name, float(at)) for name, _, at in (text.partition("@") for text in asked.case)]
    cases = cases or [SlurmCase(list(FAULTS)[number % len(FAULTS)], chance.uniform(0.5, 22)) for number in range(asked.cases)]
    print(f"seed {seed}, {len(cases)} cases", flush=True)
    failed = 0
    with world() as mine:
        for case in cases:
            problems = run(mine, case)
            failed += bool(problems)
            print(f"{case}: {story(mine)}: {'ok' if not problems else json.dumps(problems, indent=1)}", flush=True)
    print(f"{len(cases)} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
