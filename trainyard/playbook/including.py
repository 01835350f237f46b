"""Includes when the run comes to them: which file or role each host wants, and what it brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from trainyard.errors import TrainyardError, UserError
from trainyard.playbook import keywords
from trainyard.playbook.attempt import HostState, PlayOptions, TaskEnd
from trainyard.playbook.keywords import plain
from trainyard.playbook.loader import Included, included
from trainyard.playbook.looping import looped
from trainyard.playbook.model import Include, Task
from trainyard.playbook.report import HIDDEN
from trainyard.playbook.schema import render_args
from trainyard.playbook.values import Literal, Text, Value, Variables


@dataclass(slots=True)
class IncludeGroup:
    """Hosts that want the same, with the same item of a loop."""

    args: dict[str, object]
    params: dict[str, Value]
    name: str
    label: str | None
    hosts: list[HostState] = field(default_factory=list)


def groups_of(task: Task, hosts: Sequence[HostState], settings: PlayOptions) -> tuple[list[IncludeGroup], dict[str, TaskEnd | None]]:
    """Return what is wished for by whom, in order; and how the include ended on each host, None where it brings something."""
    groups: list[IncludeGroup] = []
    ends: dict[str, TaskEnd | None] = {}
    for host in hosts:
        seen = False
        try:
            wishes, seen = _wishes(task, host, settings)
        except TrainyardError as error:
            ends[host.name] = TaskEnd("failed", {"changed": False, "failed": True, "msg": str(error)})
        else:
            ends[host.name] = None if wishes else TaskEnd("skipped", {"changed": False, "skipped": True})
            for one in wishes:
                same = next((group for group in groups if (group.args, group.params) == (one.args, one.params)), None)
                if same is None:
                    groups.append(one)
                (same or one).hosts.append(host)
        if (ended := ends[host.name]) is not None and not seen:
            settings.show(host.name, task, ended, None)
    return groups, ends


def bring(include: Include, group: IncludeGroup) -> Included | TaskEnd:
    """Return the tasks and handlers that a group of hosts wants; where they cannot be read, how that ends the include.

    What its roles set the hosts know from here on.
    """
    try:
        joins = included(include, group.args, group.params)
    except UserError as error:
        return TaskEnd("failed", {"changed": False, "failed": True, "msg": str(error)})
    for host in group.hosts:
        if play := host.play:
            defaults, own = {**play.role_defaults, **joins.role_defaults}, {**play.role_vars, **joins.role_vars}
            host.play = replace(play, role_defaults=defaults, role_vars=own)
    return joins


def title(task: Task) -> str | None:
    """Return how an include of a role is called that has no name of its own."""
    name = task.args.get("name")
    written = name.source if isinstance(name, Text) else name.value if isinstance(name, Literal) else None
    return f"{task.name} : {written}" if written is not None and plain(task.name) == task.action == "include_role" else None


def _wishes(task: Task, host: HostState, settings: PlayOptions) -> tuple[list[IncludeGroup], bool]:
    """Return what a host wants, and whether items that it does not want were shown."""
    wishes: list[IncludeGroup] = []
    skipped: list[str | None] = []
    for about, inside in looped(task, host.variables(task, settings)):
        label = _label(task, inside)
        if not all(condition.holds(inside) for condition in task.when):
            skipped.append(label)
            continue
        args = {name: value for name, value in render_args(keywords.COURSE[task.action], task.args, inside).items() if name != "apply"}
        params: dict[str, Value] = {name: Literal(value) for name, value in about.items()}
        wishes.append(IncludeGroup(args, params, str(args.get("file") or args.get("name")), label))
    named = skipped if task.loop is not None else []
    for label in named:
        settings.show(host.name, task, TaskEnd("skipped", {"changed": False, "skipped": True}), label)
    return wishes, bool(named)


def _label(task: Task, inside: Variables) -> str | None:
    if task.loop is None:
        return None
    return HIDDEN if task.no_log else str(inside[task.loop.var] if task.loop.label is None else task.loop.label.render(inside))
