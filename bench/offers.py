"""Ask all emulated clouds for offers at once, each answering 300 ms late: the seconds of the table, and of the whole command.

Then again with one cloud that is down and one that never answers: the others stand in the table all the same. The emulators run in
this process, the measured command in one of its own. 1 when the table takes longer than promised, or a cloud is hidden.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import machine
from trainyard.config import find_root
from trainyard.errors import UserError
from trainyard.rehearsal.emulators import emulator_of, emulators
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.settings.variables import account_keys

PROMISED_S = 2.0
LATENCY_S = 0.3
_PROGRAM = """
import json, os, sys, time
from trainyard.cli.common import context
from trainyard.runs.verbs.offers import OfferSearch, search_offers
work = context(as_json=True)
search_offers(work, OfferSearch(clouds=("local",)))
search = OfferSearch(gpus=("RTX 4090", "H100", "A100", "A10"), patience=float(sys.argv[1]))
began = time.perf_counter()
market = search_offers(work, search)
took = time.perf_counter() - began
clouds = {one.cloud: [len(one.offers), one.problem, one.seconds] for one in market.replies}
print(json.dumps([took, clouds, market.without_keys]))
"""
"""The verb's own call, as soon as what it loads is loaded."""


@dataclass(frozen=True, slots=True)
class AskedMarket:
    """What one process has seen. ``clouds``: number of offers, why there are none, seconds."""

    seconds: float
    clouds: Mapping[str, tuple[int, str | None, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.offers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", type=float, default=2.0, help="seconds that clouds have when one of them is silent")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-offers-") as folder, _all_clouds(Path(folder)) as running, _silent() as silent:
        env = _environment(running, Path(folder))
        rounds = [_ask(env, 15.0) for _ in range(asked.rounds)]
        best = min(rounds, key=lambda one: one.seconds)
        for name, (offers, problem, seconds) in ((name, best.clouds[name]) for name in running):
            print(f"{name:<11} {offers:>3} offers  {seconds:5.2f} s" + (f"  {problem}" if problem else ""))
        print(f"table      {' '.join(f'{one.seconds:.2f}' for one in rounds)} s, {len(running)} clouds, {LATENCY_S:g} s before each answer")
        print(f"command    {_command(env):.2f} s: invoke offers --gpu H100, its start included")
        down, hung, *others = [name for name in running if best.clouds[name][0]]
        hurt = _ask(env | _moved(running[down], "http://127.0.0.1:9") | _moved(running[hung], silent), asked.wait)
        hidden = [name for name in others if not hurt.clouds[name][0]]
        print(f"{down} down, {hung} silent, --wait {asked.wait:g}: {hurt.seconds:.2f} s, hidden: {', '.join(hidden) or 'none'}")
    print(machine())
    slow = best.seconds > PROMISED_S
    print(f"promised: {PROMISED_S:g} s; {'slower' if slow else 'kept'}")
    return 1 if slow or hidden or hurt.seconds > asked.wait + 1 else 0


@contextmanager
def _all_clouds(folder: Path) -> Iterator[dict[str, Emulator]]:
    with ExitStack() as running:
        opened: dict[str, Emulator] = {}
        for name in emulators():
            cloud = emulator_of(name)
            limits = {window.name: 10**9 for window in cloud.limits}
            try:
                opened[name] = start(cloud, folder / name, timing=Timing(provisioning=1e9), limits=limits, latency=LATENCY_S, env={})
            except UserError as error:  # a package that only an extra brings
                print(f"not measured: {name}: {error.message}")
                continue
            running.callback(opened[name].stop)
            if any(set(one.env) & set(opened[name].env) for other, one in opened.items() if other != name):
                del opened[name]  # one account has one address, and that is the other cloud's emulator
        yield opened


@contextmanager
def _silent() -> Iterator[str]:
    """Take connections, and never say a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _environment(running: Mapping[str, Emulator], folder: Path) -> dict[str, str]:
    (folder / "Pulumi.yaml").write_text("name: trainyard\nruntime: python\n", encoding="utf-8")
    keys = {name for names in account_keys().values() for name in names}
    env = {name: value for name, value in os.environ.items() if name not in keys}
    for emulator in running.values():
        env |= emulator.env
    return env | {
        "TRAINYARD_PROJECT_DIR": str(folder),
        "PYTHONPATH": str(find_root(Path(__file__).parent)),
        "TRAINYARD_HOME": str(folder / "home"),
    }


def _moved(emulator: Emulator, address: str) -> dict[str, str]:
    return {name: value.replace(emulator.address, address) for name, value in emulator.env.items()}


def _ask(env: Mapping[str, str], wait: float) -> AskedMarket:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(wait)], env=dict(env), capture_output=True, text=True, check=True)
    seconds, clouds, _ = json.loads(done.stdout)
    return AskedMarket(seconds, {name: (int(one[0]), one[1], float(one[2])) for name, one in clouds.items()})


def _command(env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "trainyard", "offers", "--gpu", "H100"], env=dict(env), capture_output=True, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
