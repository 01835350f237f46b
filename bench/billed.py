"""Billed minutes of a run with 6 minutes of training and a 5 GB model, by three roads, on the emulated cloud.

What is real: the controller (whole `invoke train`), engine, provider, pods (processes of this machine with their own SSH
server), uploader, S3 server, and the emulator's ledger of what is billed. What is scaled: training time and the model's
size are divided by SCALE, the links keep their true speed, so that each second of them stands for SCALE. What is
measured apart and not multiplied: the minutes of a run with neither training nor model (renting, set-up, proof, end).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from bench.link import Link
from bench.measure import machine, table
from tests.faults.world import STACK, World, world
from trainyard.rehearsal.kit import Container
from trainyard.rehearsal.kit.machines import Machine
from trainyard.storage import local
from trainyard.storage.bucket import adopt_or_create
from trainyard.storage.client import StoreSettings, with_bucket

TRAINING = Path(__file__).with_name("training.py")
BUCKET = "bench-billed"
SHARDS = 10


@dataclass(frozen=True, slots=True)
class Road:
    """One way to bring a model to safety."""

    name: str
    when: str
    store: bool


ROADS = (
    Road("shards go to the bucket while it trains, the pod sends", "evenly", True),
    Road("the model is written at the end, then the pod sends it to the bucket", "at-the-end", True),
    Road("the model is written at the end, no bucket: copied home over SSH", "at-the-end", False),
)


def main() -> None:
    """Run the benchmark and print its table."""
    asked = _words()
    part = 1 / asked.scale
    with world() as one:
        _slow_ssh(one, asked.home * 1e6)
        store = _store(one)
        try:
            # The roads side by side, each on a link of its own: they wait far more than they compute.
            fixed = _each(one, store, asked, "fixed", 0.0, 0)
            billed = _each(one, store, asked, "road", asked.minutes * 60 * part, int(asked.gb * 1e9 * part))
        finally:
            local.stop(one.yard().places)
    rows = []
    for road, seconds, least in zip(ROADS, billed, fixed, strict=True):
        minutes = (least + max(0.0, seconds - least) * asked.scale) / 60
        rows.append([road.name, f"{seconds:.1f}", f"{least:.1f}", f"{minutes:.1f}"])
    speeds = f"pod to store {asked.up:.0f} MB/s, pod to home {asked.home:.2f} MB/s"
    print(f"\n{asked.minutes:g} minutes of training, a model of {asked.gb:g} GB in {SHARDS} shards, {speeds}; {machine()}\n")
    print(table(["road", "billed here, s", "of these fixed, s", "billed minutes"], rows))
    times = f"{asked.scale:g}"
    print(f"\n- training and model are divided by {times} here; billed minutes = (fixed + (billed here - fixed) x {times}) / 60")
    print("- fixed: what is billed of a run by the same road with neither training nor model")
    print("- real: the whole command, the emulated cloud's own bill, pods, uploader, S3 server; emulated: RunPod, the links' speed")


def _each(one: World, store: StoreSettings, asked: argparse.Namespace, word: str, seconds: float, size: int) -> list[float]:
    """Run a training by each road, all at once; returns the billed seconds of each."""
    with ThreadPoolExecutor(len(ROADS)) as pool:
        runs = [
            pool.submit(_billed, one, f"{word}{number}", road, _store_env(store, asked.up * 1e6), seconds, size)
            for number, road in enumerate(ROADS)
        ]  # fmt: skip
        return [run.result() for run in runs]


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6, help="of training")
    parser.add_argument("--gb", type=float, default=5, help="of the model")
    parser.add_argument("--up", type=float, default=30, help="MB/s from the pod to the store")
    parser.add_argument("--home", type=float, default=6.25, help="MB/s from the pod to this machine (50 Mbit/s)")
    parser.add_argument("--scale", type=float, default=5, help="how much less is trained and sent here")
    return parser.parse_args()


def _slow_ssh(one: World, speed: float) -> None:
    """Lead to every pod's SSH server through a link of its own."""
    machines = one.emulator.fleet.machines
    begin = machines.start

    def start(container: Container, pod_id: str) -> Machine:
        machine = begin(container, pod_id)
        return replace(machine, port=Link(speed, upwards=False).to(machine.port)) if machine.port else machine

    machines.start = start  # type: ignore[method-assign]


def _store(one: World) -> StoreSettings:
    store = with_bucket(local.ensure(one.yard().places), BUCKET)
    adopt_or_create(store)
    return store


def _store_env(store: StoreSettings, speed: float) -> dict[str, str]:
    """Return the variables that lead to the store through a link of its own."""
    port = int(str(store.endpoint).rpartition(":")[2])
    return {
        "AWS_ACCESS_KEY_ID": store.access_key.reveal(), "AWS_SECRET_ACCESS_KEY": store.secret_key.reveal(),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{Link(speed, upwards=True).to(port)}", "AWS_REGION": "us-east-1",
    }  # fmt: skip


def _billed(one: World, label: str, road: Road, env: Mapping[str, str], seconds: float, size: int) -> float:
    """Run one training and return the seconds that the emulated cloud bills for its pod."""
    yard = one.yard(**(env if road.store else {}))
    yard.settings(bucket=BUCKET if road.store else "none", store="s3" if road.store else None)
    args = f"args={seconds} {size} {SHARDS if size else 0} {road.when}"
    words = ["--recipe", "command", "--set", f"script={TRAINING}", "--set", args, "--name", label]
    done = yard.invoke("train", "--stack", STACK, *words, "--yes", timeout=900)
    if done.code:
        sys.exit(f"bench: the run by '{road.name}' exited {done.code}:\n{done.out[-3000:]}\n{done.err[-3000:]}")
    pod = yard.record(label)["pod"]["pod_id"]
    billed = sum((stretch.end or 0.0) - stretch.start for stretch in one.paid() if stretch.pod == pod)
    print(f"{label}: {billed:.1f} s billed", file=sys.stderr, flush=True)
    return billed


if __name__ == "__main__":
    main()
