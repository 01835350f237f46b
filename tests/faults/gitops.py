"""``invoke faults.gitops``: gitops.sync is killed at random instants, in two clones, one alone or both at once; then it is left in peace.

Whatever was killed: of each commit and file one training has begun, its result is in the bucket once, and no pod is left.
A file that is removed meanwhile leaves no pod, either. In every other case of two files the second waits for the first, and has not
begun before that one's result was committed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.test_alone import Clone
from tests.e2e.yard import COUNT, Yard, kill_tree
from trainyard.storage import local
from trainyard.storage.client import with_bucket
from trainyard.storage.find import list_results

_ROUNDS = 40
"""Syncs in peace, in each clone, after which what is not over counts as left."""


class TwoClones:
    """A repository with two clones that share bucket and cloud, as two CI machines with disks of their own do."""

    def __init__(self) -> None:
        self.here = Yard(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")))
        settings = self.here.root / "Pulumi.local.yaml"
        settings.write_text(settings.read_text() + "  trainyard:commit_alone_minutes: 0.02\n")
        (self.here.root / ".gitignore").write_text(".trainyard/\nout/\n.venv\n")
        (self.here.root / "runs").mkdir()
        self.git("init", "-q")
        self.commit()
        self.there = Clone(self.here.base, self.here.extra)
        shutil.rmtree(self.there.root)
        self.git("clone", "-q", ".", str(self.there.root))
        (self.there.root / ".venv").symlink_to((self.here.root / ".venv").resolve())
        self.here.invoke("gitops.sync").expect()  # environments stand from here on

    def git(self, *words: str, at: Yard | None = None) -> str:
        """Run git in a clone."""
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
        done = subprocess.run(["git", *who, *words], cwd=(at or self.here).root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self) -> str:
        """Commit all there is; return the first digits of the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a case")
        return self.git("rev-parse", "HEAD")[:12]

    def records(self, label: str) -> list[dict[str, Any]]:
        """Return the records that both clones have of a label."""
        folders = [path for yard in (self.here, self.there) for path in (yard.home / "runs" / "gitops" / label).glob("[0-9]*")]
        return [json.loads((path / "run.json").read_text()) for path in folders if (path / "run.json").is_file()]

    def close(self) -> None:
        """End all of it."""
        self.there.close()
        self.here.close()
        shutil.rmtree(self.here.base, ignore_errors=True)


def case(clones: TwoClones, dice: random.Random, number: int) -> list[str]:
    """Play one case; return what went wrong."""
    files = [clones.here.root / "runs" / f"case-{number}-{letter}.yaml" for letter in "ab"[: dice.randint(1, 2)]]
    for old in (clones.here.root / "runs").glob("*.yaml"):
        old.unlink()
    chained = len(files) == 2 and dice.random() < 0.5
    for path in files:
        after = f"after: {files[0].stem}\n" if chained and path is files[1] else ""
        path.write_text(f"{after}stack: local\nrecipe: command\nvalues: {{script: {COUNT}, args: {dice.randint(2, 8)} 0.2 0}}\n")
    labels = [f"{path.stem}-{clones.commit()}" for path in files[:1]]
    labels += [f"{path.stem}-{labels[0][-12:]}" for path in files[1:]]
    clones.git("pull", "-q", "--ff-only", at=clones.there)
    removed = ""
    for step in range(dice.randint(1, 4)):
        if step and not removed and not chained and dice.random() < 0.2:
            files[0].unlink()
            removed = labels[0]
            clones.commit()
            clones.git("pull", "-q", "--ff-only", at=clones.there)
        _kill(dice, dice.choice(([clones.here], [clones.there], [clones.here, clones.there])))
    kept = [label for label in labels if label != removed]
    problems = _settle(clones, kept)
    return problems + _judge(clones, kept, removed) + (_judge_chain(clones, *labels) if chained else [])


def _kill(dice: random.Random, yards: Sequence[Yard]) -> None:
    """Sync in clones at once and kill each after a while; some come to their end before."""
    begun = [(yard.start("gitops.sync"), time.monotonic() + dice.uniform(0.3, 7.0)) for yard in yards]
    for process, at in sorted(begun, key=lambda one: one[1]):
        while process.poll() is None and time.monotonic() < at:
            time.sleep(0.02)
        if process.poll() is None:
            kill_tree(process)
        elif process.stdout:
            process.stdout.close()


def _settle(clones: TwoClones, labels: Sequence[str]) -> list[str]:
    """Sync in peace until both clones say that all is over; return what they say for the last time where they do not."""
    said: list[str] = []
    for _ in range(_ROUNDS):
        said, over = [], True
        for yard in (clones.here, clones.there):
            done = yard.invoke("gitops.sync", "--json")
            report = done.json() if done.out.startswith("{") else {}
            over = over and not done.code and set(report.get("over", ())) >= {f"gitops/{label}" for label in labels}
            said.append(f"sync ended with {done.code}: {done.out[-400:]} {done.err[-600:]}")
        if over and not clones.here.pods():
            return []
        time.sleep(0.5)
    return said


def _judge(clones: TwoClones, labels: Sequence[str], removed: str) -> list[str]:
    problems = [f"pods are left: {pods}"] if (pods := clones.here.pods()) else []
    store = with_bucket(local.ensure(clones.here.places), _bucket(clones))
    for label in labels:
        results = list_results(store, "gitops", label)
        begun = {record["token"] for record in clones.records(label) if record["starting"]}
        if [one.committed for one in results] != [True] or len(begun) != 1:
            problems.append(f"{label}: {len(begun)} trainings have begun, the bucket has {results}")
    if len({record["token"] for record in clones.records(removed) if record["starting"]} if removed else ()) > 1:
        problems.append(f"{removed}: more than one training of it has begun")
    return problems


def _judge_chain(clones: TwoClones, first: str, second: str) -> list[str]:
    """Tell of a second link that was begun before the first one's result was sealed (the store's times are whole seconds)."""
    store = with_bucket(local.ensure(clones.here.places), _bucket(clones))
    sealed = max((one.modified for one in list_results(store, "gitops", first) if one.committed), default=float("inf"))
    begun = min((record["created"] for record in clones.records(second)), default=0.0)
    return [] if begun + 1 > sealed else [f"{second} was begun at {begun}, and {first} was committed at {sealed}"]


def _bucket(clones: TwoClones) -> str:
    records = [record for path in (clones.here.home / "runs").glob("gitops/*/*/run.json") for record in [json.loads(path.read_text())]]
    records += [json.loads(path.read_text()) for path in (clones.there.home / "runs").glob("gitops/*/*/run.json")]
    return next((str(record["bucket"]["bucket"]) for record in records if record.get("bucket")), "none")


def main(arguments: Sequence[str]) -> int:
    """Play cases; return 1 when one of them has left anything."""
    parser = argparse.ArgumentParser(prog="faults.gitops")
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args(arguments)
    print(f"seed {asked.seed}: again with --seed {asked.seed}", flush=True)
    clones, failed = TwoClones(), 0
    try:
        for number in range(asked.cases):
            began = time.monotonic()
            problems = case(clones, random.Random(asked.seed * 100_003 + number), number)
            failed += bool(problems)
            print(
                f"{number:4} {'FAILED' if problems else 'ok':7} {time.monotonic() - began:6.1f} s",
                *problems,
                sep="\n       " if problems else " ",
                flush=True,
            )
    finally:
        clones.close()
    print(f"{asked.cases} cases, {failed} failed (seed {asked.seed})")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
