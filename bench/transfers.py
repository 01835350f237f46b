"""What bench.upload and bench.download share: cases, contents, interleaved rounds until the time is over, and the table."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Usage, machine, medians, table

PEERS = ("s5cmd", "aws", "rclone", "boto3")
OURS = "trainyard"
_RANDOM = os.urandom(1 << 20) * 32


@dataclass(frozen=True, slots=True)
class Case:
    """Files of one size."""

    name: str
    text: str
    files: int
    size: int

    @property
    def bytes(self) -> int:
        """All of them together."""
        return self.files * self.size


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for."""

    cases: list[Case]
    peers: list[str]
    seconds: float
    rounds: int


def order(what: str) -> Order:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--peers", default=",".join(PEERS), help="which of them to measure, '' for none (default: all)")
    parser.add_argument("--only", default="one,shards,small", help="which cases")
    parser.add_argument("--seconds", type=float, default=240, help="begin no further round after so long (default: 240)")
    parser.add_argument("--rounds", type=int, default=5, help="at most (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the files of each case, and of the one file's size")
    words = parser.parse_args()
    peers = [name for name in words.peers.split(",") if name]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    every = [
        Case("one", "one file of 1 GB", 1, int(1e9 * words.scale)),
        Case("shards", "20 files of 125 MB", max(1, int(20 * words.scale)), 125_000_000),
        Case("small", "10,000 files of 4 KB", max(1, int(10_000 * words.scale)), 4096),
    ]
    return Order([case for case in every if case.name in words.only.split(",")], peers, words.seconds, words.rounds)


def fill(folder: Path, case: Case) -> None:
    """Write a case's files, no two of them equal; as many as 500 in a folder."""
    for number in range(case.files):
        path = folder / f"{number // 500:02d}" / f"{number:05d}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(os.urandom(16))
            for start in range(16, case.size, len(_RANDOM)):
                file.write(memoryview(_RANDOM)[: min(len(_RANDOM), case.size - start)])


def rounds(order: Order, clients: Sequence[str], run: Callable[[Case, str], Usage]) -> dict[tuple[str, str], list[Usage]]:
    """Run every client on every case, interleaved, until the time is over; each at least once."""
    usage: dict[tuple[str, str], list[Usage]] = {}
    began = time.monotonic()
    for number in range(order.rounds):
        for case in order.cases:
            for client in clients:
                usage.setdefault((case.name, client), []).append(run(case, client))
                print(
                    f"round {number + 1}: {case.name}, {client}: {usage[case.name, client][-1].seconds:.2f} s", file=sys.stderr, flush=True
                )
        if time.monotonic() - began > order.seconds * (number + 1) / (number + 2):  # the next one would not fit
            break
    return usage


def show(
    title: str, order: Order, names: Mapping[str, str], usage: Mapping[tuple[str, str], Sequence[Usage]], notes: Sequence[str]
) -> None:
    """Print the table as Markdown."""
    head = ["case", "client", "s", "MB/s", "CPU s/GB", "peak MiB", "ours is"]
    rows = []
    for case in order.cases:
        ours = medians(usage[case.name, OURS])
        for client, name in names.items():
            one = medians(usage[case.name, client])
            rows.append([
                case.text, name, f"{one.seconds:.2f}", f"{case.bytes / one.seconds / 1e6:.0f}", f"{one.cpu / case.bytes * 1e9:.2f}",
                f"{one.peak:.0f}", "" if client == OURS else f"{one.seconds / ours.seconds:.2f} x as fast",
            ])  # fmt: skip
    runs = len(usage[order.cases[0].name, OURS])
    print(f"\n{title}; medians of {runs} interleaved rounds; {machine()}\n\n{table(head, rows)}\n")
    for note in notes:
        print(f"- {note}")
