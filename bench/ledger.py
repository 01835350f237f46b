"""Time a ledger of 100,000 runs: the query behind the list, and `invoke runs` as a whole command.

The rows are those of other machines (a shared ledger); some runs have their folders here, too. 1 when it is slower than promised.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.measure import Usage, machine, measure
from tests.servers import postgres
from tests.servers.common import Unavailable
from trainyard.config import find_root
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.rows import RunFilter, RunRow
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.verbs.listing import SHOWN

LIST_MS, COMMAND_S = 10.0, 0.6
_ROUNDS = 30
_STATES = ("succeeded", "succeeded", "succeeded", "failed", "cancelled")
_FILTERS = {
    "the newest 100": RunFilter(limit=SHOWN),
    "of a stack": RunFilter(limit=SHOWN, stack="runpod"),
    "failed": RunFilter(limit=SHOWN, state="failed"),
    "live": RunFilter(limit=SHOWN, state="live"),
    "of a user": RunFilter(limit=SHOWN, user="u7"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when the list or the command is slower than promised."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--here", type=int, nargs="+", default=[10, 1_000, 10_000], help="how many of them have a folder here, in turn")
    given = parser.parse_args(arguments)
    slow = []
    with tempfile.TemporaryDirectory(prefix="bench-ledger-") as folder:
        home = Path(folder)
        for name, ledger in _ledgers(home):
            began = time.perf_counter()
            ledger.put_runs([_row(number) for number in range(given.runs)])
            print(f"{name}: {given.runs:,} rows written in {time.perf_counter() - began:.1f} s")
            if ledger.database.is_postgres:
                with ledger.database.writing() as connection:
                    connection.exec_driver_sql("ANALYZE")  # a server does so by itself within a minute
            slow += [f"{name}, {what}" for what, ms in _lists(ledger).items() if ms > LIST_MS]
        slow += [f"invoke runs with {here:,} folders" for here in sorted(given.here) if _command(home, here) > COMMAND_S]
    print(machine())
    print(f"promised: list {LIST_MS:.0f} ms, command {COMMAND_S} s" + (f"; slower: {', '.join(slow)}" if slow else "; kept"))
    return 1 if slow else 0


def _ledgers(home: Path) -> Iterator[tuple[str, Ledger]]:
    yield "SQLite", Ledger(home / "ledger.db")
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(postgres.serve())
        except Unavailable as why:
            print(f"Postgres is not measured: {why}")
            return
        yield "Postgres", Ledger(url)


def _lists(ledger: Ledger) -> dict[str, float]:
    """Return the median of each kind of list in milliseconds."""
    medians = {}
    for what, asked in _FILTERS.items():
        times = [_timed(lambda asked=asked: ledger.runs(asked)) for _ in range(_ROUNDS)]  # type: ignore[misc]
        medians[what] = statistics.median(times) * 1000
        print(f"  list, {what}: p50 {medians[what]:.1f} ms, p90 {sorted(times)[int(_ROUNDS * 0.9)] * 1000:.1f} ms")
    return medians


def _row(number: int) -> RunRow:
    state = _STATES[number % len(_STATES)]
    return RunRow(
        user=f"u{number % 20}", label=f"r{number}", attempt=1, token=f"{number:032x}", stack=("local", "runpod")[number % 2],
        cloud=("local", "runpod")[number % 2], recipe="lora", state=state, over=number % 10_000 != 0, machine=f"m{number % 5}",
        created=1.7e9 + number * 300, started=1.7e9 + number * 300 + 60, ended=1.7e9 + number * 300 + 3600, hours=4.0, steps_done=500,
        steps_planned=500, loss=1.25, learning_rate=1e-4, eta=None, estimate=3.5, cost=1.75, s3_url=f"s3://bucket/models/u/r{number}/1/",
        local_path=None, owed=False, error="the training exited 1" if state == "failed" else None, git_commit="0" * 40,
        changed=1.7e9 + number * 300 + 3700,
    )  # fmt: skip


def _command(home: Path, here: int) -> float:
    """Return the seconds that `invoke runs` takes as a whole where so many runs have a folder, the best of some."""
    _folders(home, here)
    first = _invoke_runs(home)
    usages = [_invoke_runs(home) for _ in range(7)]
    best, cpu, peak = min(one.seconds for one in usages), min(one.cpu for one in usages), max(one.peak for one in usages)
    print(f"invoke runs, {here:,} folders here: {best:.2f} s, {cpu:.2f} s of CPU, {peak:.0f} MiB (best of 7; "
          f"the first time, which takes their records in, {first.seconds:.2f} s)")  # fmt: skip
    return best


def _folders(home: Path, count: int) -> None:
    for number in range(count):
        record = RunRecord(
            user="me", label=f"r{number}", attempt=1, environment="local", recipe="lora", values={}, bundle_sha256="0", hours=1.0,
            created=1.7e9 + number, phase="ended", token="t", ended=1.7e9 + number + 60,
        )  # fmt: skip
        folder = RunFolder(record.id.folder(home / "runs"))
        if not folder.path.exists():
            folder.path.mkdir(parents=True)
            folder.save(record)


def _invoke_runs(home: Path) -> Usage:
    env = {**os.environ, "TRAINYARD_HOME": str(home)}
    return measure([str(Path(sys.executable).with_name("invoke")), "runs"], env, find_root())


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
