"""One case: what a training left, one trouble at one moment, what ends the story. All of it is drawn from a seed and a number."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.results.contents import CONTENTS
from tests.faults.results.troubles import TROUBLES, Trouble

WHOLE = 15
"""One case in so many is a whole run: command, pod, watchdog, teardown."""
LINKS = ("ssh", "here")
LEVELS = {
    "ahead": ("another step", "rewritten", "torn", "deleted", "single file", "files change", "pod lost"),
    "resume": (
        "whole", "file missing", "file damaged", "half removed", "no marker", "another manifest", "another run's", "two damaged",
        "all damaged", "damaged meanwhile", "removed meanwhile", "another run's meanwhile", "another run's before it, damaged meanwhile",
    ),
    "data": (
        "small files", "a big file", "mixed", "edited meanwhile", "wrong object", "object gone", "wrong meanwhile", "wrong on the pod",
    ),
}  # fmt: skip
"""Other roads than that of a result (one case in three), and what may happen on each."""
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


def draw(seed: int, number: int) -> Case:
    """Return case ``number`` of a seed."""
    chance = random.Random(f"{seed}/{number}")
    if number % WHOLE == WHOLE - 1:
        level = chance.choice(("run", "run", "alone"))
        troubles = ALONE_TROUBLES if level == "alone" else RUN_TROUBLES
        return Case(level, "job", chance.choice(troubles), chance.random(), "ssh", False, chance.randrange(10**6))
    if number % 3 == 1:
        level = chance.choice(tuple(LEVELS))
        link = chance.choice(LINKS)
        fitting = {name: one for name, one in TROUBLES.items() if _fits(level, link, one[0])}
        trouble, content = _weighted(chance, fitting), chance.choice(LEVELS[level])
        return Case(level, content, trouble, chance.random(), link, False, chance.randrange(10**6))
    trouble = _weighted(chance, TROUBLES)
    content = "thousands" if number in (6, 150) else _weighted(chance, CONTENTS)
    link = "ssh" if TROUBLES[trouble][0].cut is not None else chance.choice(LINKS)
    return Case("commit", content, trouble, chance.random(), link, chance.randrange(KEPT) == 0, chance.randrange(10**6))


RUN_TROUBLES = ("kill controller", "kill uploader", "kill both", "rights revoked", "500 after a put", "503 burst")
ALONE_TROUBLES = (
    "none", "503 burst", "lost answers", "dropped requests", "truncated answers", "corrupted on the way up", "corrupted on the way down",
    "500 after Complete", "a Complete that holds nothing", "expired URLs",
)  # fmt: skip
"""What comes while a pod commits alone: its controller was killed and never came back."""


def _fits(level: str, link: str, trouble: Trouble) -> bool:
    """Tell whether a trouble can come to a level: nothing is pushed there, nothing comes home, and a folder has no link to cut."""
    here = trouble.push or trouble.vanish or trouble.full == "home" or (trouble.full == "pod" and level == "ahead")
    met = {"resume": ("any", "Get", "List"), "data": ("any", "Get", "List", "Put")}.get(level, (trouble.operation,))
    return not here and trouble.operation in met and (trouble.cut is None or link == "ssh")


def _weighted(chance: random.Random, table: Mapping[str, tuple[Any, int]]) -> str:
    return chance.choices(list(table), [weight for _, weight in table.values()])[0]
