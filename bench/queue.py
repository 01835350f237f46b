"""1,000 runs in the queue, begun and finished by one worker on the emulated cloud: how fast, and how much memory that worker holds.

What is real: submissions, the ledger, the worker (a whole `invoke worker`), engine, provider, pods with their own SSH server and
watchdog, results over SSH. What is not: the cloud (the emulator of RunPod), and the training, which ends at once.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.measure import machine, table
from tests.faults.world import STACK, CloudYard, world
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.runs.context import CommandContext
from trainyard.runs.queue.submit import submit
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.train import TrainRequest

USERS = ("ann", "bo", "cy", "di")
_JOB = "#!/bin/sh\nmkdir -p $OUTPUT_DIR/model\necho m >$OUTPUT_DIR/model/m.txt\n"
_STEPS = 5
"""Rows of the table of memory."""
GROWTH = 1.5
"""At its end the worker may hold at most so many times what it held after the first tenth."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when runs are left or failed, or the worker's memory grows with their number."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.queue", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--at-once", type=int, default=6, help="queue_at_once of the stack")
    parser.add_argument("--minutes", type=float, default=None, help="stop the worker after that long, and count what is over by then")
    asked = parser.parse_args(arguments)
    with world() as one:
        yard = one.yard()
        yard.settings(queue_at_once=asked.at_once, queue_per_user=max(1, asked.at_once // 2))
        context = CommandContext(yard.places, yard.env, Ui(stream=io.StringIO()))
        _submit(context, asked.runs)
        samples, seconds, code = _drain(yard, context, asked.minutes)
        entries = QueueRows(context.ledger().database).entries(over=True)
        return _report(entries, samples, seconds, code, whole=asked.minutes is None)


def _submit(context: CommandContext, count: int) -> None:
    script = context.places.root / "job.sh"
    script.write_text(_JOB)
    began = time.perf_counter()
    for number in range(count):
        request = TrainRequest(
            stack=STACK, recipe="command", sets=(f"script={script}",), name=f"r{number}", user=USERS[number % len(USERS)], yes=True
        )
        submit(context, request)
    spent = time.perf_counter() - began
    kept = context.places.ledger.stat().st_size / count / 1000
    print(f"{count:,} submitted in {spent:.0f} s: {1000 * spent / count:.0f} ms and {kept:.0f} kB of the ledger each", flush=True)


def _drain(yard: CloudYard, context: CommandContext, minutes: float | None) -> tuple[list[tuple[int, float]], float, int]:
    """Let one worker work; return (runs over, MB that it holds) now and then, the seconds, and its exit code."""
    words = [str(Path(sys.executable).with_name("invoke")), "worker", "--until-empty", "--every", "5"]
    rows, samples, began = QueueRows(context.ledger().database), [], time.perf_counter()
    with (yard.base / "worker.log").open("wb") as log:
        worker = subprocess.Popen(words, cwd=yard.root, env={**yard.env, "TERM": "dumb"}, stdout=log, stderr=log)
        while worker.poll() is None:
            over = sum(entry.state == "over" for entry in rows.entries(over=True))
            samples.append((over, _resident(worker.pid)))
            if minutes is not None and time.perf_counter() - began > 60 * minutes:
                worker.terminate()
                worker.wait(60)
            time.sleep(1.0)
    return samples, time.perf_counter() - began, worker.returncode


def _resident(pid: int) -> float:
    """Return the MB that a process holds in memory, 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0.0
    return int(lines[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _report(entries: Sequence[QueueEntry], samples: Sequence[tuple[int, float]], seconds: float, code: int, *, whole: bool) -> int:
    over = [entry for entry in entries if entry.state == "over"]
    outcomes = Counter(entry.outcome for entry in over)
    last = max((done for done, _ in samples), default=0)
    marks = [last * step // _STEPS for step in range(1, _STEPS + 1)] if last >= _STEPS else [last]
    held = [max((size for done, size in samples if done <= mark), default=0.0) for mark in marks]
    print(
        table(["runs over", "the worker holds at most, MB"], [[f"{mark:,}", f"{size:.0f}"] for mark, size in zip(marks, held, strict=True)])
    )
    early = max((size for done, size in samples if done <= max(1, last // 10)), default=0.0)
    growth = held[-1] / early if early else 0.0
    print(f"\n{len(over):,} of {len(entries):,} over in {seconds:.0f} s ({dict(outcomes)}): {seconds / max(1, len(over)):.1f} s each")
    print(f"memory at the end / after the first tenth: {growth:.2f} (promised: {GROWTH:g} at most); worker ended with {code}; {machine()}")
    wrong = [entry.run for entry in over if entry.outcome != "succeeded"]
    left = len(entries) - len(over) if whole else 0
    if wrong or left:
        print(f"NOT SUCCEEDED: {len(wrong)} ({', '.join(wrong[:5])}); left: {left}")
    return 1 if wrong or left or growth > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
