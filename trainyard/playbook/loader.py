"""Read a playbook strictly: every word, argument and expression is checked here, before anything connects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainyard import yamlfile
from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.playbook import documents, keywords
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.model import Block, Loop, Node, Play, Playbook, Task, tasks_of
from trainyard.playbook.schema import compile_args
from trainyard.playbook.values import Condition, Literal, Value, boolean, compile_condition, compile_value
from trainyard.reading import SAID, Kind, display
from trainyard.yamlfile import Map, Seq

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@dataclass(frozen=True, slots=True)
class _Inherited:
    """What a task takes over from the play, blocks and includes around it."""

    folder: Path
    files: tuple[Path, ...]
    when: tuple[Condition, ...] = ()
    vars: Mapping[str, Value] = field(default_factory=dict)
    environment: tuple[Value, ...] = ()
    tags: frozenset[str] = frozenset()
    ignore_errors: Value | None = None
    timeout: Value | None = None
    no_log: bool = False
    delegate_to: Value | None = None


def load(path: Path) -> Playbook:
    """Read and check a playbook. Raises UserError with file:line:col at the first mistake."""
    node = documents.load(path)
    if not isinstance(node, Seq) or not node:
        raise UserError("a playbook is a list of plays", where=Location(str(path), 1))
    return Playbook(path, tuple(_play(_map(item, node.where(index), "a play"), path) for index, item in enumerate(node)))


def _play(node: Map, path: Path) -> Play:
    keywords.refuse_unknown(node, keywords.PLAY, (), "in a play")
    if "hosts" not in node:
        raise UserError("a play needs 'hosts'", where=node.where())
    if boolean(node.get("gather_facts", False), node.where("gather_facts")):
        raise UserError("facts are not gathered here: use 'shell' with 'register'", where=node.where("gather_facts"))
    base = _Inherited(path.parent, (path.resolve(),), environment=_environment(node), tags=_tags(node))
    tasks = _nodes(node, "tasks", base)
    handlers = tuple(_handlers(node, base))
    _check_notifications((*tasks_of(tasks), *handlers), [handler.name for handler in handlers])
    variables = {**_vars(node), **_vars_files(node, path.parent)}
    hosts = _texts(node, "hosts")
    return Play(_text(node, "name") or ",".join(hosts), hosts, tasks, handlers, variables, node.where(), folder=path.parent)


def _handlers(node: Map, base: _Inherited) -> list[Task]:
    tasks: list[Task] = []
    for item, place in _items(node, "handlers"):
        one = _map(item, place, "a handler")
        if "name" not in one:
            raise UserError("a handler needs a 'name'", where=one.where())
        keywords.refuse_unknown(one, keywords.HANDLER, ACTIONS, "in a handler")
        task = _task(one, base)
        if task.name in [other.name for other in tasks]:
            raise UserError(f"there are two handlers '{task.name}'", where=one.where("name"))
        tasks.append(task)
    return tasks


def _nodes(node: Map, key: str, around: _Inherited) -> tuple[Node, ...]:
    return tuple(_node(_map(item, place, "a task"), around) for item, place in _items(node, key))


def _node(node: Map, around: _Inherited) -> Node:
    if "include" in node:
        keywords.refuse_unknown(node, keywords.INCLUDE, (), "beside 'include'")
        return _include(node, _merge(node, around))
    if any(key in node for key in ("block", "rescue", "always")):
        keywords.refuse_unknown(node, keywords.BLOCK, (), "in a block")
        if "block" not in node:
            raise UserError("'rescue' and 'always' need a 'block'", where=node.where())
        inside = _merge(node, around)
        return Block(_text(node, "name") or "", *(_nodes(node, key, inside) for key in ("block", "rescue", "always")))
    return _task(node, around)


def _include(node: Map, around: _Inherited) -> Node:
    name = _text(node, "include") or ""
    path = around.folder / name
    where = node.where("include", value=True)
    if "{{" in name:
        raise UserError("an include is read when the playbook is loaded: its name cannot be an expression", where=where)
    if path.resolve() in around.files:
        raise UserError(f"{name} includes itself", where=where)
    if not path.is_file():
        raise UserError(f"there is no file {path}", where=where)
    tasks = documents.load(path)
    if not isinstance(tasks, Seq):
        raise UserError("an included file is a list of tasks", where=Location(str(path), 1))
    inside = replace(around, folder=path.parent, files=(*around.files, path.resolve()))
    nodes = tuple(_node(_map(item, tasks.where(index), "a task"), inside) for index, item in enumerate(tasks))
    return Block(_text(node, "name") or name, nodes)


def _task(node: Map, around: _Inherited) -> Task:
    keywords.refuse_unknown(node, keywords.TASK, ACTIONS, "in a task")
    actions = [key for key in node if key in ACTIONS]
    if not actions:
        raise UserError(f"the task has no action; actions are: {', '.join(ACTIONS)}, include", where=node.where())
    if len(actions) > 1:
        raise UserError(f"the task has two actions: {actions[0]} and {actions[1]}", where=node.where(actions[1]))
    (action,) = actions
    schema = ACTIONS[action].schema
    scope = _merge(node, around)
    register = _text(node, "register")
    if register is not None and not _NAME.match(register):
        raise UserError(f"'{register}' is not a variable name", where=node.where("register", value=True))
    return Task(
        name=_text(node, "name") or action, action=action, where=node.where(), folder=scope.folder,
        args=compile_args(schema, node[action], node.where(action, value=True)), when=scope.when, vars=scope.vars,
        environment=scope.environment, tags=scope.tags, register=register, loop=_loop(node),
        until=_condition(node, "until"), retries=_value(node, "retries"), delay=_value(node, "delay"),
        changed_when=_condition(node, "changed_when"), failed_when=_condition(node, "failed_when"),
        ignore_errors=scope.ignore_errors, notify=_texts(node, "notify"), timeout=scope.timeout, no_log=scope.no_log,
        delegate_to=scope.delegate_to,
    )  # fmt: skip


def _loop(node: Map) -> Loop | None:
    items = _value(node, "loop")
    if isinstance(items, Literal):
        raise UserError("'loop' is a list or an expression", where=node.where("loop", value=True))
    if "loop_control" not in node:
        return Loop(items) if items else None
    control = _map(node["loop_control"], node.where("loop_control", value=True), "loop_control")
    yamlfile.reject_unknown(control, keywords.LOOP_CONTROL, "word in loop_control")
    name = _text(control, "loop_var") or "item"
    if not _NAME.match(name):
        raise UserError(f"'{name}' is not a variable name", where=control.where("loop_var", value=True))
    return Loop(items, var=name, label=_value(control, "label")) if items else None


def _merge(node: Map, around: _Inherited) -> _Inherited:
    delegate = _value(node, "delegate_to")
    if delegate and not (isinstance(delegate, Literal) and delegate.value in ("localhost", "127.0.0.1")):
        raise UserError("'delegate_to' can only be localhost", where=node.where("delegate_to", value=True))
    no_log = boolean(node["no_log"], node.where("no_log", value=True)) if "no_log" in node else around.no_log
    when = _condition(node, "when")
    ignore = _value(node, "ignore_errors")
    if isinstance(ignore, Literal):
        boolean(ignore.value, ignore.where)
    return replace(
        around,
        when=(*around.when, when) if when else around.when,
        vars={**around.vars, **_vars(node)},
        environment=(*around.environment, *_environment(node)),
        tags=around.tags | _tags(node),
        ignore_errors=ignore or around.ignore_errors,
        timeout=_value(node, "timeout") or around.timeout,
        no_log=no_log,
        delegate_to=delegate or around.delegate_to,
    )


def _check_notifications(tasks: tuple[Task, ...], handlers: list[str]) -> None:
    for task in tasks:
        for name in task.notify:
            if name not in handlers:
                raise UserError(f"there is no handler '{name}'{suggest(name, handlers)}", where=task.where)


def _vars(node: Map) -> dict[str, Value]:
    if node.get("vars") is None:
        return {}
    texts = _map(node["vars"], node.where("vars", value=True), "vars")
    for name in texts:
        if not _NAME.match(name):
            raise UserError(f"'{name}' is not a variable name", where=texts.where(name))
    return {name: compile_value(item, texts.where(name, value=True)) for name, item in texts.items()}


def _vars_files(node: Map, folder: Path) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name in _texts(node, "vars_files"):
        document = documents.load_map(folder / name)
        values |= {key: compile_value(item, document.where(key, value=True)) for key, item in document.items()}
    return values


def _environment(node: Map) -> tuple[Value, ...]:
    value = _value(node, "environment")
    if isinstance(value, Literal):
        raise UserError("'environment' is a mapping of names to values", where=node.where("environment", value=True))
    return () if value is None else (value,)


def _tags(node: Map) -> frozenset[str]:
    return frozenset(tag.strip() for text in _texts(node, "tags") for tag in text.split(","))


def _condition(node: Map, key: str) -> Condition | None:
    return compile_condition(node[key], node.where(key, value=True)) if key in node else None


def _value(node: Map, key: str) -> Value | None:
    return compile_value(node[key], node.where(key, value=True)) if node.get(key) is not None else None


def _text(node: Map, key: str) -> str | None:
    value = node.get(key)
    if value is not None and not isinstance(value, str):
        raise _wrong(node, key, "text")
    return value


def _texts(node: Map, key: str) -> tuple[str, ...]:
    value = node.get(key)
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in items):
        raise _wrong(node, key, "texts")
    return tuple(str(item) for item in items)


def _items(node: Map, key: str) -> list[tuple[yamlfile.Node, Location | None]]:
    value = node.get(key)
    if value is None:
        return []
    if not isinstance(value, Seq):
        raise _wrong(node, key, "list")
    return [(item, value.where(index)) for index, item in enumerate(value)]


def _wrong(node: Map, key: str, kind: Kind) -> UserError:
    return UserError(f"'{key}' must be {SAID[kind]}, not {display(node[key])}", where=node.where(key, value=True))


def _map(node: yamlfile.Node, where: Location | None, what: str) -> Map:
    if not isinstance(node, Map):
        raise UserError(f"{what} is a mapping of words to values", where=where)
    return node
