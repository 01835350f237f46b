"""One case: what a training left, one trouble at one moment, what ends the story. All of it is drawn from a seed and a number."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.results.contents import CONTENTS
from tests.faults.results.troubles import TROUBLES, Trouble

WHOLE = 15
"""One case in so many is a whole run: command, pod, watchdog, teardown."""
LINKS = ("ssh", "here", "mounted")
"""How the controller reaches the pod: over SSH, or it is a folder here; the last one over SSH with the bucket mounted on it."""
_CHECKPOINTS = (
    "whole", "file missing", "file damaged", "no marker", "another manifest", "another run's", "two damaged", "all damaged",
    "damaged meanwhile", "removed meanwhile",
)  # fmt: skip
LEVELS = {
    "ahead": ("another step", "rewritten", "torn", "deleted", "single file", "files change", "pod lost"),
    "resume": (
        "whole", "file missing", "file damaged", "half removed", "no marker", "another manifest", "another run's", "two damaged",
        "all damaged", "damaged meanwhile", "removed meanwhile", "another run's meanwhile", "another run's before it, damaged meanwhile",
    ),
    "companion": ("another step", "rewritten", "deleted", "single file", "files change", "pod lost"),
    "kept": _CHECKPOINTS,
    "home": ("whole", "file missing", "file damaged", "no marker", "another manifest", "two damaged", "all damaged"),
    "init": tuple(kind for kind in _CHECKPOINTS if kind not in ("two damaged", "all damaged")),
    "pod": tuple(kind for kind in CONTENTS if kind not in ("growing", "unreadable", "thousands")),
    "data": (
        "small files", "a big file", "mixed", "edited meanwhile", "wrong object", "object gone", "wrong meanwhile", "wrong on the pod",
    ),
}  # fmt: skip
"""Other roads than that of a result (every other case), and what may happen on each."""
KEPT = 4
"""One in so many trainings was no success: what it left is kept."""


@dataclass(frozen=True)
class Case:
    """One case; ``moment`` is the share of an honest commit's requests after which the trouble comes."""

    level: str
    content: str
    trouble: str
    moment: float
    link: str
    kept: bool
    seed: int

    def __str__(self) -> str:
        words = (
            self.level,
            self.content,
            self.trouble,
            f"{self.moment:.4f}",
            self.link,
            "kept" if self.kept else "success",
            str(self.seed),
        )
        return "/".join(words)


def parse(text: str) -> Case:
    """Read what str() of a case gives."""
    level, content, trouble, moment, link, ending, seed = text.split("/")
    return Case(level, content, trouble, float(moment), link, ending == "kept", int(seed))


def draw(seed: int, number: int, levels: Sequence[str] = (), links: Sequence[str] = ()) -> Case:
    """Return case ``number`` of a seed, of some levels and links only where they are named."""
    chance = random.Random(f"{seed}/{number}")
    usual = WHOLE_RUNS if number % WHOLE == WHOLE - 1 else tuple(LEVELS) if number % 2 else ("commit",)
    level = chance.choice(levels or usual)
    if level in RUNS:
        jobs, troubles = RUNS[level]
        return Case(level, chance.choice(jobs), chance.choice(troubles), chance.random(), "ssh", False, chance.randrange(10**6))
    if level in LEVELS:
        link = "here" if level == "pod" else chance.choice(links or LINKS)
        fitting = {name: one for name, one in TROUBLES.items() if _fits(level, link, one[0])}
        trouble, content = _weighted(chance, fitting), chance.choice(LEVELS[level])
        kept = level == "pod" and chance.randrange(KEPT) == 0
        return Case(level, content, trouble, chance.random(), link, kept, chance.randrange(10**6))
    link = chance.choice(links or (*LINKS, "ssh", "here"))
    trouble = _weighted(chance, {name: one for name, one in TROUBLES.items() if _fits("commit", link, one[0])})
    content = "thousands" if number in (6, 150) and link != "mounted" else _weighted(chance, CONTENTS)
    return Case("commit", content, trouble, chance.random(), link, chance.randrange(KEPT) == 0, chance.randrange(10**6))


RUN_TROUBLES = (
    "kill controller", "kill uploader", "kill both", "rights revoked", "500 after a put", "503 burst", "outage 10 min", "outage for good",
)  # fmt: skip
ALONE_TROUBLES = (
    "none", "503 burst", "lost answers", "dropped requests", "truncated answers", "corrupted on the way up", "corrupted on the way down",
    "500 after Complete", "a Complete that holds nothing", "expired URLs", "clock skewed",
    "kill watchdog",
)  # fmt: skip
"""What comes while a pod commits alone: its controller was killed and never came back."""
RUNS = {
    "run": (("job", "shards"), RUN_TROUBLES),
    "alone": (("job", "forger"), ALONE_TROUBLES),
    "disk": (("pod", "state"), ("none",)),
}
"""Levels that are whole runs: what is trained (for ``disk``: whose disk is full from the training's end, or from a moment, on), and the
troubles."""
WHOLE_RUNS = ("run", "run", "alone", "disk")
_READS = ("any", "Get", "List")
_MET = {"resume": _READS, "kept": _READS, "home": _READS, "init": _READS, "data": (*_READS, "Put")}
_MET_MOUNTED = ("any", "Get", "Put", "Head", "List")


def _fits(level: str, link: str, trouble: Trouble) -> bool:
    """Tell whether a trouble can come to a level by a link: each has roads on which it cannot be met."""
    if (trouble.push and link == "mounted") or (trouble.cut is not None and link == "here") or (trouble.unmount and link != "mounted"):
        return False
    if link == "mounted" and (trouble.signed or trouble.operation not in _MET_MOUNTED):
        return False
    if level == "commit":
        return trouble.forge in ("", "success")
    if trouble.push or trouble.full == "home" or (trouble.kills == ("uploader",) and level == "pod"):
        return False
    if trouble.forge == "success":
        return False
    # On a mounted bucket a small disk of its own would be another device, where no draft gets its name.
    if level != "pod" and (trouble.vanish or trouble.forge or (trouble.full and link == "mounted" and level in ("ahead", "companion"))):
        return False
    return trouble.operation in _MET.get(level, (trouble.operation,))


def _weighted(chance: random.Random, table: Mapping[str, tuple[Any, int]]) -> str:
    return chance.choices(list(table), [weight for _, weight in table.values()])[0]
