"""``invoke faults.server``: servers that are killed at random instants while people ask them for runs; then one is left in peace.

Real processes on the stack local: a run that was asked for, however often with its key, is one run and succeeds; nothing that
was asked for stays without an end; no pod is left, and no duty keeps a holder that is dead.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.web.process import Running, running, surroundings
from trainyard.clouds.local.cloud import LocalCloud
from trainyard.config import places
from trainyard.ledger.duties import DutyRows
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.operations import OperationRows
from trainyard.ledger.queue import QueueRows
from trainyard.processes import start_mark

PEACE = 240.0
"""Seconds in which a server that is left in peace has to finish the story."""
_RUN = {
    "recipe": "command",
    "values": {"code": "none"},
    "command": ["sh", "-c", "for i in 1 2 3 4 5 6; do echo step $i; sleep 0.5; done; echo done >result.txt"],
}


@dataclass
class Story:
    """What is asked of servers that die, and where they live."""

    folder: Path
    dice: random.Random
    token: str = ""
    kills: int = 0

    @property
    def root(self) -> Path:
        """The repository; what comes home lies in it."""
        return self.folder / "repository"

    def ledger(self) -> Ledger:
        return Ledger(self.folder / "home" / "ledger.db")

    def ask(self, server: Running, name: str) -> None:
        """Ask for a run by its key; what is not answered is asked again of the next server."""
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": f"key-{name}"}
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(f"{server.url}/api/v1/runs", json={**_RUN, "name": name}, headers=headers, timeout=20, trust_env=False)
            assert answer.status_code in (202, 409, 503), answer.text


def play(story: Story, kills: int) -> Iterator[str]:
    """Kill servers, let the last one finish, and yield what is wrong then."""
    names = ["one", "two"]
    for _ in range(kills):
        with running(story.folder, root=story.root) as server:
            story.token = story.token or new_token(server)
            for name in names:
                story.ask(server, name)
            time.sleep(story.dice.uniform(0.0, 12.0))
            server.process.kill()
            story.kills += 1
    with running(story.folder, root=story.root) as server:
        for name in names:
            story.ask(server, name)
        yield from wait(story, names)
        yield from wrong(story, names)
        server.process.terminate()
        server.process.wait(60)
    for row in DutyRows(story.ledger().database).all().values():
        if row.holder is not None and row.holder.split(" ")[2] == start_mark(int(row.holder.split(" ")[1])):
            yield f"duty {row.name} goes on without a server"


def new_token(server: Running) -> str:
    """Return a token of the account that has started the server."""
    answer = server.browser.post("/api/v1/tokens", json={"name": "matrix"}, headers={"X-CSRF-Token": server.csrf()})
    return str(answer.json()["token"])


def wait(story: Story, names: list[str]) -> Iterator[str]:
    """Wait until all is over; yield what is not."""
    end = time.monotonic() + PEACE
    while time.monotonic() < end:
        entries = QueueRows(story.ledger().database).entries(over=True)
        running_now = OperationRows(story.ledger().database).newest(100, running=True)
        if len(entries) >= len(names) and all(entry.state == "over" for entry in entries) and not running_now:
            return
        time.sleep(0.5)
    yield from (f"{entry.run} is {entry.state} after {PEACE:.0f} s: {entry.reason}" for entry in entries if entry.state != "over")
    yield from (f"operation {each.verb} {each.subject} still runs" for each in running_now)


def wrong(story: Story, names: list[str]) -> Iterator[str]:
    """Yield what does not fit: runs that are not one and well, pods that are left."""
    ledger = story.ledger()
    entries = QueueRows(ledger.database).entries(over=True)
    if sorted(entry.label for entry in entries) != names:
        yield f"asked for {names}, in the queue were {sorted(entry.label for entry in entries)}"
    yield from (f"{entry.run}: {entry.outcome}: {entry.reason}" for entry in entries if entry.outcome != "succeeded")
    rows = ledger.runs()
    for name in names:
        trained = [row for row in rows if row.label == name and row.state == "succeeded"]
        if len(trained) != 1:
            yield f"{name}: {len(trained)} attempts have succeeded"
    env = surroundings(story.folder)
    for pod in LocalCloud(places(env=env).cloud).list():
        yield f"pod left: {pod.id} {pod.name}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--kills", type=int, default=4)
    words = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if words.seed is None else words.seed
    print(f"seed {seed}", file=sys.stderr)
    bad = kills = 0
    for case in range(words.cases):
        folder = Path(tempfile.mkdtemp(prefix="ty-server-"))
        story = Story(folder, random.Random(f"{seed} {case}"))
        init = [sys.executable, "-m", "trainyard", "init", str(story.root)]
        subprocess.run(init, env=surroundings(folder), check=True, capture_output=True)
        told = list(play(story, words.kills))
        kills += story.kills
        if told:
            told.append(f"what is left lies in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        bad += bool(told)
        print(f"case {case}: {'ok' if not told else '; '.join(told)}", file=sys.stderr)
    print(f"{words.cases} cases, {kills} servers killed, {bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
