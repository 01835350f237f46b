"""``invoke faults.limits``: two processes reserve against one limit at once; what they have reserved may never pass it.

In each round both ask for runs of drawn prices; some of these end meanwhile, having cost all of their estimate, so that the
sum never falls and its last value is its largest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from trainyard.config import secret
from trainyard.errors import RefusedError
from trainyard.ledger.ledger import PLACE, Ledger
from trainyard.ledger.limits import SpendLimit
from trainyard.ledger.rows import Reservation
from trainyard.ledger.runid import RunId
from trainyard.ledger.tables import metadata
from trainyard.runs.planning.estimate import reserve_dollars
from trainyard.secret import Secret
from trainyard.settings.table import StackSettings

LIMIT = 10.0
_TRIES = 6
_TRIFLE = 1e-6


def work() -> None:
    """Reserve in round after round, one a line of stdin; print what got through, in dollars."""
    path, name, seed = sys.argv[1:]
    ledger, draw = Ledger(secret(os.environ, PLACE) or Path(path)), random.Random(f"{seed} {name}")
    for line in sys.stdin:
        print(sum(_reserve(ledger, RunId(name, line.strip(), attempt), draw) for attempt in range(_TRIES)), flush=True)


def _reserve(ledger: Ledger, run: RunId, draw: random.Random) -> float:
    dollars, ends = draw.uniform(0.5, 4.0), draw.random() < 0.4
    try:
        reserve_dollars(
            ledger, StackSettings(limit_day=LIMIT), Reservation(run=run, added=dollars, kind="prepared", data={"estimate": dollars})
        )
    except RefusedError:
        return 0.0
    if ends:
        ledger.set_cost(run, time.time(), dollars)
        ledger.add(run, "ended", cost=dollars)
    return dollars


def problems(place: Path | Secret, rounds: int, seed: int) -> list[str]:
    """Play rounds against the ledger at a place, which is emptied before each; return what was wrong."""
    ledger, wrong = Ledger(place), []
    with _worker(place, "ann", seed) as one, _worker(place, "bo", seed) as other:
        for number in range(rounds):
            with ledger.database.writing() as connection:
                for table in metadata.sorted_tables:
                    connection.execute(sa.delete(table))
            through = sum(_played((one, other), number))
            rest = ledger.left_of([SpendLimit("limit_day", LIMIT, 86_400)])[0]
            if not 0 < through <= LIMIT + _TRIFLE or abs(rest.spent + rest.committed - through) > _TRIFLE:
                wrong.append(f"round {number}: ${through:.4f} got through, the ledger says {rest}")
    return wrong


def _played(workers: Sequence[subprocess.Popen[str]], number: int) -> list[float]:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"round{number}\n")
        worker.stdin.flush()
    return [float(worker.stdout.readline()) for worker in workers if worker.stdout is not None]


@contextlib.contextmanager
def _worker(place: Path | Secret, name: str, seed: int) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, PLACE: place.reveal() if isinstance(place, Secret) else ""}
    words = [sys.executable, "-c", "from tests.faults.limits import work; work()", str(place), name, str(seed)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()  # no round comes any more


def main() -> int:
    """Play as the command line says; return 1 where a limit was passed."""
    from tests.servers.common import Unavailable  # the workers need none of it
    from tests.servers.postgres import find, serve

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ty") as folder:
        wrong = {"SQLite": problems(Path(folder) / "ledger.db", asked.rounds, asked.seed)}
    try:
        find()
        with serve() as url:
            wrong["Postgres"] = problems(url, asked.rounds, asked.seed)
    except Unavailable as why:
        print(f"not with Postgres: {why}")
    for name, each in wrong.items():
        print("\n".join([f"{name}: {asked.rounds} rounds, seed {asked.seed}: {len(each)} wrong", *each]))
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
