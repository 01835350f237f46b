"""The level ``companion``: the thread that sends ahead beside a training, as a run has it; its controller dies, another comes back.

The same training as that of level ``ahead``; the next command is another checkout's, which knows the run's name and token.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.sharedctypes import Synchronized
from typing import Any, cast

from tests.faults.results.cases import Case
from tests.faults.results.contents import PART
from tests.faults.results.controller import Order, Pod, as_verb, bring, new_record, reach
from tests.faults.results.stage import Result, play_scene
from tests.faults.results.training import AT_ONCE, FOLDERS, SINGLE, Scene
from tests.faults.results.world import World
from trainyard.clock import Clock
from trainyard.recipes.declaration import Declaration
from trainyard.remote.protocol import Transport
from trainyard.runs.context import CommandContext
from trainyard.runs.life import ahead as beside
from trainyard.runs.life import roads
from trainyard.storage import ahead

LOOKS = 40
"""So often it may look until a command ends, where what it waits for does not come."""
AFTER = 2
"""And so often after its checkpoint is safe."""


class Following(Scene):
    """One training; each command but the first is given from somewhere else."""

    def run(self, over: bool) -> int:
        code = self.stage.run(command, self.single, over)
        self.order = self.stage.order = replace(self.order, root=self.stage.root / f"elsewhere{self.stage.chance.randrange(10**6)}")
        return code


def play(world: World, case: Case) -> Result:
    """Play a case of this level."""
    return play_scene(Following, world, case)


# ---- in the controller's process


@dataclass(frozen=True)
class TrainingPod(Pod):
    """A pod whose training runs."""

    dial: Callable[[], Transport]

    def connect_sender(self) -> Transport:
        """Connect once."""
        return self.dial()


def command(order: Order, elapsed: Synchronized[float], single: bool, over: bool) -> None:
    """Stay beside the training until its newest checkpoint is safe; bring the result to safety where the training is over."""
    as_verb(order, elapsed, functools.partial(_command, single=single, over=over))


def _command(order: Order, context: CommandContext, clock: Clock, *, single: bool, over: bool) -> None:
    folder = order.folder
    record = folder.load() if (folder.path / "run.json").exists() else new_record(order)
    record.keep_checkpoints, record.checkpoint_minutes = 1, 0.0
    if record.result is None:
        pod = TrainingPod("pod-1", order.pod, lambda: reach(order))
        looks = _hasten(clock, SINGLE if single else FOLDERS)
        with beside.beside(context, record, folder, cast(Any, pod)) as companion:
            safe = 0
            while companion._thread.is_alive() and len(looks) < LOOKS and (not safe or len(looks) < safe + AFTER):
                companion._thread.join(0.005)
                safe = safe or (len(looks) if companion.ahead and companion.ahead.saved else 0)
            known = companion.end()
        if companion.ahead and companion.ahead.saved:
            print(f"saved {companion.ahead.saved}")
        if not over:
            return
        bring(order, context, record, clock, roads.ResultSelection(["model/**"], []), known)
    if roads.settle(context, record, folder):
        folder.save(record)


def _hasten(clock: Clock, rule: ahead.CheckpointRule) -> list[float]:
    """Let no time pass between its looks; returns their pauses, which grow with each."""
    looks: list[float] = []
    usual, storage_pause = beside.Companion._pause, ahead.Ahead._pause

    def between(self: beside.Companion) -> float:
        looks.append(usual(self))
        clock.pause(looks[-1])
        return 0.005

    def within(self: ahead.Ahead, seconds: float) -> None:
        clock.pause(seconds)
        storage_pause(self, 0.0)

    beside.Companion._pause = between  # type: ignore[method-assign]
    ahead.Ahead._pause = within  # type: ignore[method-assign]
    said = Declaration(("model/**",), (), rule.pattern, rule.mark, (0,), (75,), (), {}, ())
    vars(beside)["declared_anywhere"] = lambda *_: said
    vars(beside)["Ahead"] = functools.partial(ahead.Ahead, part_size=PART)
    ahead.AFTER.update(AT_ONCE)
    return looks
