"""How long one large file takes to a host and back over SSH: tasks of ours beside scp, rsync and a pipe through ssh, in one run.

Whole processes with their start and connect, cold, interleaved; ours proves the file by its sha256 on both sides, the others prove
nothing. Once over loopback, once with a round trip of 80 ms.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from bench import engines
from bench.engines import NAMES, OURS, Target
from bench.measure import Usage, machine, measure, medians, table

TOOLS = ("scp", "rsync", "cat")


def main() -> None:
    """Run the rounds and print a table for each link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=",".join(TOOLS), help="which of them to measure, '' for none (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="of each (default: 3)")
    parser.add_argument("--late", default="0,80", help="round trips of the link in ms (default: 0,80)")
    parser.add_argument("--megabytes", type=int, default=200, help="size of the file (default: 200)")
    words = parser.parse_args()
    peers = [name for name in words.peers.split(",") if name]
    for name in [name for name in peers if name != "cat" and shutil.which(name) is None]:
        print(f"bench: {name} is skipped: it is not installed")
        peers.remove(name)
    for milliseconds, target in engines.targets(words.late):
        usage = _rounds([OURS, *peers], target, words.rounds, words.megabytes)
        _show(milliseconds, [OURS, *peers], usage, words.rounds, words.megabytes)


def _rounds(clients: Sequence[str], target: Target, rounds: int, megabytes: int) -> dict[tuple[str, str], list[Usage]]:
    """Take a file there and home again with each client, so often; what arrives is compared."""
    source, there, home = (target.folder / name for name in ("source.bin", "there.bin", "home.bin"))
    block = os.urandom(1 << 20)
    with source.open("wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(4, "big") + block[: 1_000_000 - 4])
    usage: dict[tuple[str, str], list[Usage]] = {}
    for number in range(rounds):
        for client in clients:
            there.unlink(missing_ok=True)
            home.unlink(missing_ok=True)
            for verb, one, other in (("up", source, there), ("down", there, home)):
                command = engines.carry(client, target, verb, one, other)
                env = {**os.environ, "HOME": str(target.folder), "PYTHONPATH": os.getcwd()}
                usage.setdefault((client, verb), []).append(measure(command, env, target.folder))
                print(f"round {number + 1}: {client} {verb}: {usage[client, verb][-1].seconds:.2f} s", file=sys.stderr, flush=True)
            if home.read_bytes() != source.read_bytes():
                sys.exit(f"bench: {client} brought another file home")
    return usage


def _show(milliseconds: int, clients: Sequence[str], usage: dict[tuple[str, str], list[Usage]], rounds: int, megabytes: int) -> None:
    rows = []
    for client in clients:
        row = [NAMES[client]]
        for verb in ("up", "down"):
            ours, its = medians(usage[OURS, verb]), medians(usage[client, verb])
            ratio = "" if client == OURS else f"{its.seconds / ours.seconds:.2f} x as fast"
            row += [f"{its.seconds:.2f}", f"{megabytes / its.seconds:.0f}", f"{its.peak:.0f}", ratio]
        rows.append(row)
    head = ["client", "up, s", "MB/s", "peak MiB", "ours is", "down, s", "MB/s", "peak MiB", "ours is"]
    where = engines.link_name(milliseconds)
    print(f"\n{megabytes} MB over {where}; medians of {rounds} interleaved rounds; {machine()}\n\n{table(head, rows)}\n", flush=True)


if __name__ == "__main__":
    main()
