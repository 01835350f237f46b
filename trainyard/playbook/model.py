"""A loaded playbook as data: nothing here renders, connects or prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import Location
from trainyard.playbook.values import Condition, Value


@dataclass(frozen=True, slots=True)
class Task:
    """One action with everything around it; inherited settings are already merged in."""

    name: str
    action: str
    args: Mapping[str, Value | Condition]
    where: Location | None
    folder: Path
    """Where relative ``src`` of copy and template lie: the folder of the file the task stands in."""
    when: tuple[Condition, ...] = ()
    vars: Mapping[str, Value] = field(default_factory=dict)
    environment: tuple[Value, ...] = ()
    tags: frozenset[str] = frozenset()
    register: str | None = None
    loop: Value | None = None
    loop_var: str = "item"
    loop_label: Value | None = None
    until: Condition | None = None
    retries: Value | None = None
    delay: Value | None = None
    changed_when: Condition | None = None
    failed_when: Condition | None = None
    ignore_errors: Value | None = None
    notify: tuple[str, ...] = ()
    timeout: Value | None = None
    no_log: bool = False
    delegate_to: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks that belong together; ``rescue`` runs for hosts that failed in ``block``, ``always`` for all."""

    name: str
    block: tuple[Node, ...]
    rescue: tuple[Node, ...] = ()
    always: tuple[Node, ...] = ()


Node = Task | Block


@dataclass(frozen=True, slots=True)
class Play:
    """Tasks for the hosts that a pattern names."""

    name: str
    hosts: tuple[str, ...]
    tasks: tuple[Node, ...]
    handlers: tuple[Task, ...]
    vars: Mapping[str, Value]
    where: Location | None


@dataclass(frozen=True, slots=True)
class Playbook:
    """The plays of a file, in order."""

    path: Path
    plays: tuple[Play, ...]


def tasks_of(nodes: tuple[Node, ...]) -> list[Task]:
    """Return all tasks below, in the order they stand in the file."""
    tasks: list[Task] = []
    for node in nodes:
        if isinstance(node, Task):
            tasks.append(node)
        else:
            tasks += tasks_of(node.block) + tasks_of(node.rescue) + tasks_of(node.always)
    return tasks
