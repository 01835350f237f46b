"""Named points of a crash: how the emulator is made to stall there, and how it is seen that the point is reached."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.processes import Victim
from tests.faults.world import CloudYard

STALL = 2.5
"""Seconds an answer is held back: long enough to be seen, short enough not to be waited for by whoever survives."""
ALL: tuple[Victim, ...] = ("controller", "engine", "provider", "all")
ALONE: tuple[Victim, ...] = ("controller", "all")
"""Where no engine runs there is only the controller to kill."""


@dataclass
class Scene:
    """What a point looks at: the checkout, the moment the command began, the run's label (trainings)."""

    yard: CloudYard
    began: float
    label: str = ""
    known: frozenset[str] = frozenset()
    """Pods that were there before."""
    _asked: list[Mapping[str, Any]] = field(default_factory=list)
    _read: int = field(init=False)

    def __post_init__(self) -> None:
        self._read = self._list.stat().st_size if self._list.is_file() else 0

    @property
    def _list(self) -> Path:
        return self.yard.world.emulator.root / "requests.jsonl"

    def requests(self) -> list[Mapping[str, Any]]:
        """Return the account's requests since the command began; a world has answered thousands before."""
        if self._list.is_file():
            with open(self._list, "rb") as file:
                file.seek(self._read)
                lines = [line for line in file if line.endswith(b"\n")]
            self._read += sum(map(len, lines))
            self._asked += [r for r in map(json.loads, lines) if r["time"] >= self.began and r.get("who") == "account"]
        return self._asked

    def intents(self) -> list[str]:
        """Return the events of all intents of this checkout that were written since then, in order."""
        found = []
        for path in (self.yard.home / "intents").glob("*/ty-*"):
            for line in path.read_text().splitlines():
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if event["time"] >= self.began:
                    found.append((event["time"], event["event"]))
        return [name for _, name in sorted(found)]

    def on(self, fault: str) -> bool:
        """Tell whether a fault still waits for its request."""
        return any(row["name"] == fault for row in self.yard.world.emulator.faults.active())

    def fresh(self) -> list[str]:
        """Return the ids of pods that came into being since."""
        return [r["id"] for r in self.yard.world.pods() if r["id"] not in self.known]

    def phase(self) -> str:
        """Return how far the run has come, by its record."""
        try:
            return str(self.yard.record(self.label).get("phase", "")) if self.label else ""
        except ValueError:
            return ""

    def log(self, name: str) -> bool:
        """Tell whether a file of the run has content."""
        path = self.yard.home / "runs" / self.yard.user / self.label / "1" / name
        return path.is_file() and path.stat().st_size > 0


@dataclass(frozen=True)
class Point:
    """One point. ``fault`` is switched on when ``arm`` says so; ``reached`` says when to kill."""

    name: str
    what: str
    operations: tuple[str, ...]
    reached: Callable[[Scene], bool]
    fault: str | None = None
    does: Mapping[str, Any] = field(default_factory=dict)
    victims: tuple[Victim, ...] = ALL
    arm: Callable[[Scene], bool] = lambda scene: True
    ssh: bool = False
    """Only where somebody logs in to pods."""


def _prepared(scene: Scene) -> bool:
    """A training asks the cloud for its prices first; what its engine asks comes after its record."""
    return not scene.label or scene.phase() != ""


def _met(fault: str) -> Callable[[Scene], bool]:
    return lambda scene: not scene.on(fault)


def _closed(scene: Scene) -> bool:
    folder = scene.yard.home / "intents" / "closed"
    return folder.is_dir() and any(not p.name.startswith(".") and p.stat().st_mtime >= scene.began for p in folder.iterdir())


def _asked_for_pod(scene: Scene) -> bool:
    fresh = set(scene.fresh())
    return bool(fresh) and any(r.get("call") == "get" and fresh & set(r["path"].split("/")) for r in scene.requests())


_RENT = ("up", "train", "replace")
_END = ("destroy", "replace", "train")
TABLE = (
    Point("catalog", "before the intent's start: offers are asked for", _RENT, _met("catalog-500"), "catalog-500",
          {"hang": True, "silent": STALL}, arm=_prepared),
    Point("intent", "the intent says start, the request may have left", _RENT, lambda s: "start" in s.intents()),
    Point("not-accepted", "the request is sent, the cloud makes nothing", _RENT, _met("create-hangs-before"), "create-hangs-before",
          {"silent": STALL}),
    Point("posting", "the request is under way, the cloud accepts it a while later", _RENT, _met("create-slow"), "create-slow",
          {"delay": STALL}),
    Point("accepted", "the cloud has accepted, no answer came", _RENT,
          lambda s: not s.on("create-hangs-after") and bool(s.fresh()), "create-hangs-after", {"silent": STALL}),
    Point("answered", "the answer is sent, the outcome may not be recorded", _RENT,
          lambda s: any(r.get("call") == "create" for r in s.requests())),
    Point("recorded", "the intent has its outcome, the state may not have the pod", _RENT, lambda s: "outcome" in s.intents()),
    Point("endpoint", "the pod is asked for its address", ("up", "train"), _asked_for_pod, "boot-slow", {"slow": STALL}),
    Point("playbook", "the playbook works on the pod", ("train",), lambda s: s.log("playbook.log"), victims=ALONE, ssh=True),
    Point("training", "the training runs", ("train",), lambda s: s.log("train.log"), victims=ALONE),
    Point("commit", "the result is on its way", ("train",), lambda s: s.phase() == "trained", victims=ALONE),
    Point("committed", "the result is safe, the pod is not ended yet", ("train",), lambda s: s.phase() == "committed"),
    Point("ending", "the end is asked for, the cloud does nothing yet", _END, _met("delete-hangs-before"), "delete-hangs-before",
          {"silent": STALL}),
    Point("end-unheard", "the pod is ended, no answer came", _END, _met("delete-hangs-after"), "delete-hangs-after",
          {"silent": STALL}),
    Point("closed", "the lease is closed, the sweep begins", ("destroy", "train"), _closed),
)  # fmt: skip
POINTS: Mapping[str, Point] = {point.name: point for point in TABLE}
