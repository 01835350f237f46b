"""A loaded playbook as data: nothing here renders, connects or prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import Location
from trainyard.playbook.values import Condition, Value

Vars = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Role:
    """The role that a task belongs to; defaults and vars of the roles it depends on are merged in."""

    name: str
    path: Path
    defaults: Vars = field(default_factory=dict)
    vars: Vars = field(default_factory=dict)
    params: Vars = field(default_factory=dict)
    """What stands beside its name in ``roles:`` and is no keyword."""
    within: Role | None = None
    """The role whose tasks brought it: where that ends, it does, too."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What a task is repeated for, and how an item is called and shown."""

    items: Value
    lookup: str | None = None
    """``with_NAME``: the lookup that makes the items of these terms."""
    var: str = "item"
    label: Value | None = None
    index_var: str | None = None
    pause: Value | None = None
    extended: bool = False
    """Whether ``ansible_loop`` is there."""


@dataclass(frozen=True, slots=True)
class Task:
    """One action with everything around it; inherited settings are already merged in.

    Actions of ``keywords.COURSE`` (meta, include_vars ...) do nothing on a host: the executor carries them out.
    """

    name: str
    action: str
    args: Mapping[str, Value | Condition]
    where: Location | None
    folder: Path
    """The folder of the file the task stands in."""
    search: tuple[Path, ...] = ()
    """Where a relative local path is looked for, the nearest first: the role's folder, the file's own, the playbook's."""
    role: Role | None = None
    when: tuple[Condition, ...] = ()
    vars: Vars = field(default_factory=dict)
    """Of the blocks, imports and the task itself."""
    include_params: Vars = field(default_factory=dict)
    """``vars`` of the include_tasks and include_role around it: stronger than what is registered."""
    environment: tuple[Value, ...] = ()
    tags: frozenset[str] = frozenset()
    register: str | None = None
    loop: Loop | None = None
    until: Condition | None = None
    retries: Value | None = None
    delay: Value | None = None
    changed_when: Condition | None = None
    failed_when: Condition | None = None
    notify: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    """Of a handler: the topics by which it is notified, beside its name."""
    no_log: bool = False
    """Whether it is hidden; where an expression says that, until the run has found that nothing is to be."""
    no_log_says: Value | None = None
    """That expression."""
    ignore_errors: Value | None = None
    ignore_unreachable: Value | None = None
    any_errors_fatal: Value | None = None
    timeout: Value | None = None
    delegate_to: Value | None = None
    run_once: Value | None = None
    throttle: Value | None = None
    check_mode: Value | None = None
    diff: Value | None = None
    become: Value | None = None
    become_user: Value | None = None
    become_method: Value | None = None
    connection: Value | None = None

    @property
    def given_name(self) -> str | None:
        """Return its name; None where it has none and is called like its action."""
        return None if self.name.rpartition(".")[2] == self.action else self.name

    @property
    def title(self) -> str:
        """Return its name as it is shown: behind that of its role."""
        return f"{self.role.name} : {self.name}" if self.role else self.name


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks that belong together; ``rescue`` runs for hosts that failed in ``block``, ``always`` for all."""

    name: str
    block: tuple[Node, ...]
    rescue: tuple[Node, ...] = ()
    always: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Include:
    """Tasks that join when the run comes to them: ``task`` (include_tasks or include_role) says which, when and for what."""

    task: Task
    scope: object
    """For ``included()`` of the loader: what stands around them."""
    known: tuple[Node, ...] = ()
    """The tasks, where the name is no expression; they were checked with the rest."""


Node = Task | Block | Include


@dataclass(frozen=True, slots=True)
class VarsPrompt:
    """A variable that a person is asked for before the play begins."""

    name: str
    text: str
    where: Location | None
    private: bool = True
    default: Value | None = None
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class VarsFile:
    """A file of variables; of several names the first that is there counts."""

    names: tuple[Value, ...]
    folder: Path
    known: Vars | None = None
    """What it holds, where no name is an expression."""


@dataclass(frozen=True, slots=True)
class Play:
    """Tasks for the hosts that a pattern names; pre_tasks, roles and post_tasks are among them, handlers flushed between."""

    name: str
    hosts: tuple[str, ...]
    tasks: tuple[Node, ...]
    handlers: tuple[Task, ...]
    vars: Vars
    where: Location | None
    prompts: tuple[VarsPrompt, ...] = ()
    vars_files: tuple[VarsFile, ...] = ()
    role_defaults: Vars = field(default_factory=dict)
    """Of the roles in ``roles:``; they hold for all tasks of the play."""
    role_vars: Vars = field(default_factory=dict)
    free: bool = False
    """Whether its hosts need not wait for each other (strategy: free)."""
    serial: tuple[Value, ...] = ()
    max_fail_percentage: Value | None = None
    any_errors_fatal: Value | None = None
    force_handlers: Value | None = None
    gather_facts: Value | None = None
    remote_user: Value | None = None
    port: Value | None = None
    folder: Path = Path()
    """Of the playbook it stands in."""


@dataclass(frozen=True, slots=True)
class Playbook:
    """The plays of a file and of those it imports, in order."""

    path: Path
    plays: tuple[Play, ...]


def tasks_of(nodes: tuple[Node, ...]) -> list[Task]:
    """Return all tasks that are known before the run, in the order they stand in the file."""
    tasks: list[Task] = []
    for node in nodes:
        match node:
            case Task():
                tasks.append(node)
            case Include():
                tasks += [node.task, *tasks_of(node.known)]
            case Block():
                tasks += tasks_of(node.block) + tasks_of(node.rescue) + tasks_of(node.always)
    return tasks
