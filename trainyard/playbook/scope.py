"""What a task takes over from what stands around it: the play, blocks, imports, roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.playbook import keywords
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.entries import Entry, Mistakes
from trainyard.playbook.model import Role, Task, Vars
from trainyard.playbook.values import Condition, Literal, Value, compile_value
from trainyard.yamlfile import Map, Seq


@dataclass(slots=True)
class Gathered:
    """What comes together for a whole play while its tasks are read."""

    wrong: Mistakes
    handlers: list[Task] = field(default_factory=list)
    """Of its roles."""
    role_defaults: dict[str, Value] = field(default_factory=dict)
    role_vars: dict[str, Value] = field(default_factory=dict)
    roles: list[object] = field(default_factory=list)
    """The uses of roles so far: one that is asked for twice in the same way runs once."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where tasks stand, and what they inherit."""

    play: Gathered
    playbook: Path
    """The folder of the playbook."""
    folder: Path
    """The folder of the file."""
    files: tuple[Path, ...] = ()
    """The files that include one another down to this one."""
    role: Role | None = None
    when: tuple[Condition, ...] = ()
    vars: Vars = field(default_factory=dict)
    include_params: Vars = field(default_factory=dict)
    environment: tuple[Value, ...] = ()
    tags: frozenset[str] = frozenset()
    no_log: Value | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    """The switches and settings of keywords, by their names."""
    defaults: Mapping[str, Map] = field(default_factory=dict)
    """module_defaults: action -> its arguments."""

    @property
    def wrong(self) -> Mistakes:
        """Return where mistakes are kept."""
        return self.play.wrong

    @property
    def search(self) -> tuple[Path, ...]:
        """Return where a relative local path is looked for, the nearest first."""
        return tuple(dict.fromkeys((*((self.role.path,) if self.role else ()), self.folder, self.playbook)))


def merged(entry: Entry, around: Scope) -> Scope:
    """Return what holds inside an entry."""
    when, no_log = entry.condition("when"), entry.switch("no_log")
    return replace(
        around,
        when=(*around.when, when) if when else around.when,
        vars={**around.vars, **entry.variables("vars")},
        environment=(*around.environment, *_environment(entry)),
        tags=around.tags | frozenset(entry.words("tags")),
        no_log=around.no_log if no_log is None else no_log,
        settings={**around.settings, **_settings(entry)},
        defaults={**around.defaults, **_module_defaults(entry)},
    )


def _settings(entry: Entry) -> Mapping[str, Value]:
    read = {name: entry.switch(name) for name in keywords.SWITCHES} | {name: entry.value(name) for name in keywords.SETTINGS}
    settings = {name: value for name, value in read.items() if value is not None}
    connection = settings.get("connection")
    if isinstance(connection, Literal) and connection.value not in keywords.CONNECTIONS:
        entry.wrong.add(UserError(f"connection '{connection.value}' is not supported: there are ssh and local", where=connection.where))
    return settings


def _environment(entry: Entry) -> tuple[Value, ...]:
    node = entry.node.get("environment")
    if isinstance(node, Seq):
        return tuple(value for item in entry.entries("environment", "an item of environment") for value in _whole(item))
    value = entry.value("environment")
    if isinstance(value, Literal):
        entry.wrong.add(UserError("'environment' is a mapping of names to values", where=value.where))
        return ()
    return () if value is None else (value,)


def _whole(entry: Entry) -> tuple[Value, ...]:
    with entry.wrong.gathered():
        return (compile_value(entry.node, entry.node.where()),)
    return ()


def _module_defaults(entry: Entry) -> Mapping[str, Map]:
    block = entry.inner("module_defaults")
    defaults: dict[str, Map] = {}
    for key in block.node if block else ():
        assert block is not None
        name = keywords.plain(key)
        inner = block.inner(key)
        if key.startswith("group/"):
            entry.wrong.add(UserError("groups of actions are not known here: name each action", where=block.node.where(key)))
        elif name not in ACTIONS:
            entry.wrong.add(UserError(f"there is no action '{key}'{suggest(name, ACTIONS)}", where=block.node.where(key)))
        elif inner is not None:
            defaults[name] = inner.node
    return defaults
