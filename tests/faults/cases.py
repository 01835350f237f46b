"""What a crash case is, drawn by chance from a seed, and the text that repeats it alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tests.faults.playable import faults_of
from tests.faults.points import ALL, POINTS, TABLE, Point
from tests.faults.processes import Victim
from trainyard.settings.clouds import entries

Operation = Literal["up", "train", "destroy", "replace"]
Next = Literal[
    "nothing", "later", "reaper", "destroy", "other-engine", "two-destroys", "colleague", "again", "attach", "recover", "lost", "remove"
]
WAITS: tuple[Next, ...] = ("nothing", "later", "reaper", "lost")
"""What a user does that only the lease's end ends."""
TRAINING_ONLY: tuple[Next, ...] = ("attach", "recover")
SITUATIONS = {"stuck": "boot-stuck-provisioning", "key": "pod-key-refused"}
"""Pods that no watchdog can end: the container never starts, or the cloud refuses the pod's own key."""
BEFORE_BOOT = ("catalog", "intent", "not-accepted", "posting", "accepted", "answered", "recorded")


@dataclass(frozen=True, slots=True)
class Case:
    """One case. ``fraction`` places a random instant within the operation's usual time."""

    operation: Operation
    engine: str
    victim: Victim
    point: str
    next: Next
    fraction: float = 0.0
    situation: str = ""

    @property
    def slow(self) -> bool:
        """Tell whether a lease long enough to start a training in (preflight asks for a minute) must be waited out."""
        early = self.point in BEFORE_BOOT or (self.point == "random" and self.fraction < 0.5)
        return self.next in WAITS and self.operation == "train" and not early

    def __str__(self) -> str:
        point = f"random@{self.fraction:.2f}" if self.point == "random" else self.point
        return "/".join((self.operation, self.engine, self.victim, point, self.next, *([self.situation] if self.situation else [])))


def parse(text: str) -> Case:
    """Return the case of a text; raises ValueError for one that is none."""
    operation, engine, victim, point, following, *rest = text.split("/")
    name, _, fraction = point.partition("@")
    fits = operation in get_args(Operation) and victim in get_args(Victim) and following in get_args(Next)
    if not fits or engine not in ("builtin", "cli") or (name != "random" and name not in POINTS):
        raise ValueError(f"'{text}' is no case")
    return Case(operation, engine, victim, name, following, float(fraction or 0), rest[0] if rest else "")  # type: ignore[arg-type]


def draw(seed: int, number: int, engines: Sequence[str], cloud: str = "runpod") -> Case:
    """Return case ``number`` of a seed for a cloud; the same on every machine that has the same engines."""
    chance, row, faults = random.Random(f"{seed}/{number}"), entries()[cloud], {fault.name for fault in faults_of(cloud)}
    operation: Operation = chance.choices(("up", "train", "destroy", "replace"), (4, 3, 2, 2))[0] if row.ssh else "train"
    engine = chance.choice(list(engines))
    fitting = [point for point in _points(cloud) if operation in point.operations]
    following, ends_itself = _next(chance, operation, engines), row.self_terminate
    if not ends_itself and following in WAITS:
        following = "reaper"  # where nothing of ours runs any more, a schedule keeps the lease's end
    situation = chance.choice([name for name, fault in SITUATIONS.items() if fault in faults]) if following == "reaper" else ""
    if situation == "stuck":
        # A pod that never starts is never set up, trained on or, in a replace, there to be ended first.
        fitting = [point for point in fitting if point.name in BEFORE_BOOT] or fitting
    if chance.random() < 0.3:
        return Case(operation, engine, chance.choice(ALL), "random", following, chance.random(), situation)
    point = chance.choice(fitting)
    return Case(operation, engine, chance.choice(point.victims), point.name, following, 0.0, situation)


def left_out(cloud: str) -> str:
    """Return what of the matrix makes no sense at a cloud, in words; empty where all does."""
    ssh, there = entries()[cloud].ssh, _points(cloud)
    never = ", ".join(point.name for point in TABLE if point.ssh and not ssh)
    unasked = ", ".join(point.name for point in TABLE if point not in there and (ssh or not point.ssh))
    texts = []
    if never:
        texts.append(f"nobody can log in there: no pods are declared, so trainings alone are killed, and never at the point {never}")
    if unasked:
        texts.append(f"that cloud is never asked what is waited for at the point {unasked}")
    return "; ".join(texts)


def _points(cloud: str) -> list[Point]:
    """Return the points that can be reached at a cloud: where somebody logs in, and whose fault meets a call that is made there."""
    ssh, faults = entries()[cloud].ssh, {fault.name for fault in faults_of(cloud)}
    return [point for point in TABLE if (ssh or not point.ssh) and (point.fault is None or point.fault in faults)]


def _next(chance: random.Random, operation: Operation, engines: Sequence[str]) -> Next:
    possible: list[Next] = ["nothing", "later", "reaper", "destroy", "two-destroys", "colleague", "again", "lost", "remove"]
    if len(engines) > 1:
        possible += ["other-engine", "other-engine"]
    if operation == "train":
        possible += ["attach", "attach", "recover"]
    return chance.choice(possible)
