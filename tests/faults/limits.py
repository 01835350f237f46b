"""``invoke faults.limits``: two processes reserve against limits of each kind at once; what they have reserved may never pass one.

In each round both ask for runs of drawn users, stacks and prices, some of them further attempts of the other's run; some end
meanwhile, having cost all of their estimate, so that no sum ever falls and its last value is its largest.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from trainyard.config import secret
from trainyard.errors import RefusedError
from trainyard.ledger.ledger import PLACE, Ledger
from trainyard.ledger.limits import SpendLimit
from trainyard.ledger.rows import Reservation
from trainyard.ledger.runid import RunId
from trainyard.ledger.tables import metadata
from trainyard.runs.planning.limits import limits_of, reserve_dollars
from trainyard.secret import Secret
from trainyard.settings.table import StackSettings

LIMITS: tuple[Mapping[str, object], ...] = (
    {"amount": 5.0, "per": "run"},
    {"amount": 8.0, "per": "day", "of": "user"},
    {"amount": 9.0, "per": "week", "of": "stack"},
    {"amount": 14.0, "per": "month"},
)
_USERS, _STACKS, _LABELS = ("ann", "bo"), ("east", "west"), ("a", "b", "c")
_TRIES = 8
_TRIFLE = 1e-6


class Got(NamedTuple):
    """What one process got through."""

    user: str
    stack: str
    label: str
    dollars: float


def work() -> None:
    """Reserve in round after round, one a line of stdin; print what got through."""
    path, name, seed = sys.argv[1:]
    ledger, draw = Ledger(secret(os.environ, PLACE) or Path(path)), random.Random(f"{seed} {name}")
    for line in sys.stdin:
        attempts = range(1, 2 * _TRIES, 2) if name == "one" else range(2, 2 * _TRIES + 1, 2)
        print(json.dumps([got for attempt in attempts if (got := _reserve(ledger, line.strip(), attempt, draw))]), flush=True)


def _limits(stack: str, user: str) -> list[SpendLimit]:
    return limits_of(StackSettings(limits=LIMITS), stack=stack, user=user)


def _reserve(ledger: Ledger, number: str, attempt: int, draw: random.Random) -> Got | None:
    user, stack, dollars, ends = draw.choice(_USERS), draw.choice(_STACKS), draw.uniform(0.5, 4.0), draw.random() < 0.4
    run = RunId(user, f"{draw.choice(_LABELS)}-{number}", attempt)
    facts = {"estimate": dollars, "stack": stack}
    try:
        reserve_dollars(ledger, _limits(stack, user), Reservation(run=run, added=dollars, kind="prepared", data=facts))
    except RefusedError:
        return None
    if ends:
        ledger.set_cost(run, time.time(), dollars)
        ledger.add(run, "ended", cost=dollars)
    return Got(user, stack, run.label, dollars)


def problems(place: Path | Secret, rounds: int, seed: int) -> list[str]:
    """Play rounds against the ledger at a place, which is emptied before each; return what was wrong."""
    ledger, wrong = Ledger(place), []
    with _worker(place, "one", seed) as one, _worker(place, "other", seed) as other:
        for number in range(rounds):
            with ledger.database.writing() as connection:
                for table in metadata.sorted_tables:
                    connection.execute(sa.delete(table))
            wrong += [f"round {number}: {text}" for text in _judged(ledger, _played((one, other), number))]
    return wrong


def _judged(ledger: Ledger, through: Sequence[Got]) -> Iterator[str]:
    """Yield what the ledger says otherwise than those who reserved, and each limit that they have passed together."""
    if not through:
        yield "nothing got through"
    for user, stack, label in itertools.product(_USERS, _STACKS, {got.label for got in through}):
        for rest in ledger.left_of(_limits(stack, user), RunId(user, label)):
            limit, each_run = rest.limit, rest.limit.seconds is None
            mine = sum(
                got.dollars
                for got in through
                if (not limit.users or got.user in limit.users)
                and limit.stack in (None, got.stack)
                and (not each_run or got[::2] == (user, label))
            )
            if mine > limit.dollars + _TRIFLE or abs(rest.spent + rest.committed - mine) > _TRIFLE:
                yield f"${mine:.4f} got through, the ledger says {rest}"


def _played(workers: Sequence[subprocess.Popen[str]], number: int) -> list[Got]:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{number}\n")
        worker.stdin.flush()
    return [Got(*got) for worker in workers if worker.stdout is not None for got in json.loads(worker.stdout.readline())]


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
