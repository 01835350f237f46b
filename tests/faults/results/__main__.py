"""``python -m tests.faults.results [--cases N] [--seed S] [--server NAME] [--case TEXT]``: the matrix of guarantee G2.

Each case is a result of odd contents, one trouble at a drawn moment, and whatever ends the story. In the end the result is
committed and byte for byte what the pod had; until then it is on its pod or at home, and that is said. Never a success
without the bytes of this run.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tests.faults.results import companion, fetching, lone, restoring, scene, training
from tests.faults.results.cases import LINKS, RUNS, Case, draw, parse
from tests.faults.results.stage import Result
from tests.faults.results.whole import Works, play_whole, works
from tests.faults.results.world import world
from tests.faults.sidebyside import side_by_side
from tests.servers.common import Unavailable

FULL = 300
PLAY = {
    "commit": scene.play, "ahead": training.play, "companion": companion.play, "pod": lone.play, "data": fetching.play,
    **dict.fromkeys(("resume", "kept", "home", "init"), restoring.play),
}  # fmt: skip
"""Who plays a case of a level that needs no whole run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the cases; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.results", description=__doc__)
    parser.add_argument("--cases", type=int, default=FULL)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--server", choices=("versitygw", "minio", "ceph"), default="versitygw")
    parser.add_argument("--case", action="append", default=[], help="one case, as a failing one prints it (may be repeated)")
    parser.add_argument("--level", action="append", default=[], choices=(*PLAY, *RUNS), help="these levels only (may be repeated)")
    parser.add_argument("--link", action="append", default=[], choices=LINKS, help="these ways to the pod only (may be repeated)")
    parser.add_argument("--workers", type=int, default=2, help="worlds side by side")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    chosen = [parse(text) for text in given.case] or [draw(seed, number, given.level, given.link) for number in range(given.cases)]
    print(f"seed {seed}, server {given.server}, {len(chosen)} cases", flush=True)
    try:
        results = run(chosen, given.server, min(given.workers, len(chosen)), lambda text: print(text, flush=True))
    except Unavailable as error:
        print(f"{given.server} cannot be had here: {error}", file=sys.stderr)
        return 69
    print(table(results, seed))
    print(f"elapsed: {(time.monotonic() - began) / 60:.1f} minutes, {os.cpu_count()} processors, load {os.getloadavg()[1]:.0f}")
    return 1 if any(result.problems for result in results) or len(results) < len(chosen) else 0


def run(cases: Sequence[Case], server: str, workers: int, say: Callable[[str], None]) -> list[Result]:
    """Play cases in some worlds side by side; say each one's verdict. Raises Unavailable where there is no such server."""
    waiting: queue.SimpleQueue[tuple[int, Case]] = queue.SimpleQueue()
    for item in enumerate(cases):
        waiting.put(item)
    results: list[Result] = []
    missing: list[Unavailable] = []
    over = threading.Event()

    def work() -> None:
        try:
            with ExitStack() as stack:
                mine = stack.enter_context(world(server))
                yard: Works | None = None
                while not over.is_set():
                    number, case = waiting.get_nowait()
                    if case.level in PLAY:
                        result = PLAY[case.level](mine, case)
                    else:
                        yard = yard or stack.enter_context(works(None if server == "versitygw" else mine.server))
                        result = play_whole(yard, case)
                    results.append(result)
                    say(verdict(number, result, server))
        except queue.Empty:
            return
        except Unavailable as error:
            missing.append(error)

    side_by_side(work, workers, over)
    if missing:
        raise missing[0]
    return results


def verdict(number: int, result: Result, server: str) -> str:
    """Return what is said of one case."""
    word = "FAILED" if result.problems else "ok" if result.met else "ok (over before the moment)"
    text = "; ".join([f"{number:4} {word:7} {result.seconds:6.1f} s  {result.case}", *result.notes])
    if not result.problems:
        return text
    told = "".join(f"\n       {problem}" for problem in result.problems)
    story = "\n".join(f"       | {line}" for line in result.story.splitlines()[-40:])
    return f"{text}{told}\n       again: python -m tests.faults.results --server {server} --case '{result.case}'\n{story}"


def table(results: Sequence[Result], seed: int) -> str:
    """Return the counts by content and trouble."""
    lines = [f"\n{len(results)} cases, seed {seed}, {sum(result.seconds for result in results) / 60:.1f} minutes of work"]
    for title in ("level", "content", "trouble"):
        played, bad, missed = Counter[str](), Counter[str](), Counter[str]()
        for result in results:
            name = str(getattr(result.case, title))
            played[name] += 1
            bad[name] += bool(result.problems)
            missed[name] += not result.met
        lines += [
            f"  {title:<8} {name:<32} {played[name]:4} played, {missed[name]:3} over before it, {bad[name]:3} failed"
            for name in sorted(played)
        ]
    began = time.strftime("%Y-%m-%d", time.gmtime())
    failed = [result for result in results if result.problems]
    lines.append(f"{began}: failed {len(failed)}; trouble not met {sum(not result.met for result in results)}")
    return "\n".join([*lines, *(f"  {result.case}" for result in failed)])


if __name__ == "__main__":
    sys.exit(main())
