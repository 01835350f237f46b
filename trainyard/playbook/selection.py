"""Which tasks and hosts a run is about: tags, --start-at-task, host patterns, and whether all variables are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.playbook.hosts import magic
from trainyard.playbook.hosts.patterns import matching
from trainyard.playbook.model import Block, Include, Node, Play, Playbook, Task
from trainyard.playbook.values import compile_value

BUILT_IN = magic.NAMES | {
    "check_mode",
    "result",
    "failed_task",
    "failed_result",
    "item",
    "vars",
    "ansible_failed_task",
    "ansible_failed_result",
    "ansible_loop",
}


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags asked for and those refused."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()

    def choose(self, task: Task) -> bool:
        """Tell whether the task takes part."""
        tags = task.tags
        if self.skip & tags or ("tagged" in self.skip and tags) or ("untagged" in self.skip and not tags):
            return "always" in tags and "always" not in self.skip and not (self.skip & tags)
        named = bool(self.only & tags)
        if "never" in tags:
            return named
        everything = not self.only or "all" in self.only or ("tagged" in self.only and tags) or ("untagged" in self.only and not tags)
        return named or bool(everything) or "always" in tags


def select(playbook: Playbook, tags: Tags, start_at: str | None) -> Playbook:
    """Return the playbook with the chosen tasks only. Raises UserError when no task has the name to start at."""
    started = start_at is None
    if start_at is not None:
        names = startable(playbook)
        if start_at not in names:
            raise UserError(f"{playbook.path}: there is no task '{start_at}' to start at{suggest(start_at, names)}")

    def keep(task: Task) -> bool:
        nonlocal started
        started = started or task.name == start_at
        return started and tags.choose(task)

    return replace(playbook, plays=tuple(replace(play, tasks=_kept(play.tasks, keep)) for play in playbook.plays))


def startable(playbook: Playbook) -> list[str]:
    """Return the names of the tasks that a run can start at, in order: not those that an include brings only then."""
    return [task.name for play in playbook.plays for task in due(play.tasks) if task.where]


def due(nodes: tuple[Node, ...]) -> Iterator[Task]:
    """Yield the tasks that have a turn of their own, in order: an include is one, whatever it brings then."""
    for node in nodes:
        if isinstance(node, Block):
            for part in (node.block, node.rescue, node.always):
                yield from due(part)
        else:
            yield node.task if isinstance(node, Include) else node


def chosen(nodes: tuple[Node, ...], tags: Tags) -> tuple[Node, ...]:
    """Return those of the tasks, which an include has brought, that take part."""
    return _kept(nodes, tags.choose)


def _kept(nodes: tuple[Node, ...], keep: Callable[[Task], bool]) -> tuple[Node, ...]:
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Block):
            block = replace(node, block=_kept(node.block, keep), rescue=_kept(node.rescue, keep), always=_kept(node.always, keep))
            kept += [block] if block.block or block.always else []
        elif keep(node.task if isinstance(node, Include) else node):
            kept.append(node)
    return tuple(kept)


def hosts_of(play: Play, groups: Mapping[str, Sequence[str]], extra: Mapping[str, object]) -> list[str]:
    """Return the hosts that the play's pattern names. Raises UserError for a word that names no host and no group."""
    patterns: list[str] = []
    for text in play.hosts:
        said = compile_value(text, play.where).render({**play.vars, **extra})
        patterns += [str(each) for each in said] if isinstance(said, list) else [str(said)]
    try:
        return matching(patterns, groups, play.where)
    except UserError as error:
        error.message = f"the play '{play.name}': {error.message}"
        raise
