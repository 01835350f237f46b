"""One attempt of a task: its arguments become a step, which is carried out, once more where its answer was lost and that is harmless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from trainyard.errors import HostKeyChanged, HostKeyUnknown, KeyRefused, TrainyardError, Unreachable
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.ahead import SentTogether
from trainyard.playbook.model import Task
from trainyard.playbook.perform import Scene
from trainyard.playbook.stepping import step_of
from trainyard.playbook.steps import Outcome, Step
from trainyard.playbook.values import Variables
from trainyard.remote.frame import NotRun
from trainyard.remote.protocol import NoAnswer

ALIVE = 15.0
"""Seconds in which a host must answer after a task's time was over."""
REPEATS = 3
"""How often what may be done twice is done again after its link was lost."""
_DEFINITE = (NoAnswer, NotRun, HostKeyChanged, HostKeyUnknown, KeyRefused, SentTogether)
"""Of what keeps a host from answering: what another try does not mend, or must not try."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Carriage:
    """What carrying out a task needs beside its arguments."""

    scene: Scene
    claim: Callable[[Step], None]
    """Raises UserError when the step would overwrite what another host has left here."""
    perform: Callable[[Step], Outcome]
    doubted: Callable[[], bool]
    """Whether it may have been done before, together with something whose link was lost."""
    lost: Callable[[str, int], None]
    """Is told that the link was lost and which try comes next; waits for it."""


def carry_out(task: Task, variables: Variables, way: Carriage) -> Outcome:
    """Do a task once. Raises Unreachable when its host does not answer; whatever else goes wrong is a failed result."""
    scene = way.scene
    try:
        return _carry_out(task, variables, way)
    except NoAnswer as error:
        # Too slow, or nobody there? Only who answers has failed.
        scene.transport.exec(":", timeout=ALIVE)
        return {"changed": False, "failed": True, "msg": f"did not end within {scene.timeout:g} s" if scene.timeout else error.message}
    except Unreachable:
        raise
    except TrainyardError as error:
        return {"changed": False, "failed": True, "msg": str(error)}
    except OSError as error:
        return {"changed": False, "failed": True, "msg": f"on this machine: {error}"}


def _carry_out(task: Task, variables: Variables, way: Carriage) -> Outcome:
    schema, scene = ACTIONS[task.action].schema, way.scene
    step, _ = _repeated(lambda: step_of(task, variables, scene.transport, scene.environment), way.lost)
    way.claim(step)
    doubted = way.doubted()
    if not schema.again:
        if doubted:
            raise SentTogether(f"'{task.name}' was sent with what was lost before it, and may have run")
        return way.perform(step)
    outcome, again = _repeated(lambda: way.perform(step), way.lost)
    again = again or doubted
    reads = schema.again == "reads" or scene.check or any(name in task.args for name in schema.reads)
    if again and not reads and not outcome.get("failed") and not outcome.get("changed"):
        # The first time may have changed it before its answer was lost: a handler too many is better than one too few.
        outcome |= {"changed": True, "msg": "done again after the link was lost: what the first time changed is not known"}
    return outcome


def _repeated(work: Callable[[], Answer], lost: Callable[[str, int], None]) -> tuple[Answer, bool]:
    """Do what is harmless to do twice until it is answered; return also whether it was done again."""
    tries = 1
    while True:
        try:
            return work(), tries > 1
        except _DEFINITE:
            raise
        except Unreachable as error:
            if tries > REPEATS:
                error.message += f" (tried {tries} times)"
                raise
            tries += 1
            lost(error.message, tries)
