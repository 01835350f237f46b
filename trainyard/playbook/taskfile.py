"""Read lists of tasks: actions, blocks, and what is included."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.playbook import documents, keywords, rolefolder
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.actiontext import arguments, copied, put
from trainyard.playbook.entries import VARIABLE, Entry
from trainyard.playbook.model import Block, Include, Loop, Node, Role, Task, Vars, tasks_of
from trainyard.playbook.schema import Args, compile_args
from trainyard.playbook.scope import Scope, merged
from trainyard.playbook.values import Literal, Value, compile_value
from trainyard.textfile import expanded
from trainyard.yamlfile import Map, Seq

_DEEPEST = 64
"""So many files that include one another are read before the run."""
_DEEPEST_OF_A_RUN = 150
"""So many files are included in one another at most, for a file may include itself until a condition holds."""


def nodes_of(entry: Entry, key: str, around: Scope) -> tuple[Node, ...]:
    """Return the tasks of a list."""
    return tuple(node for one in entry.entries(key, "a task") if (node := _node(one, around)) is not None)


def file_nodes(path: Path, around: Scope, *, handlers: bool = False) -> tuple[Node, ...]:
    """Return the tasks of a file; an empty one has none."""
    with around.wrong.gathered():
        document = documents.load(path)
        if document is None:
            return ()
        if not isinstance(document, Seq):
            raise UserError("an included file is a list of tasks", where=Location(str(path), 1))
        inside = replace(around, folder=path.parent, files=(*around.files, path.resolve()))
        holder = Map()
        holder["tasks"] = document
        entry = Entry(holder, around.wrong)
        return tuple(handlers_of(entry, "tasks", inside)) if handlers else nodes_of(entry, "tasks", inside)
    return ()


def handlers_of(entry: Entry, key: str, around: Scope) -> list[Task]:
    """Return the handlers of a list, of those of files that it names, too."""
    handlers: list[Task] = []
    for one in entry.entries(key, "a handler"):
        action = next((plain for word in one.node if (plain := keywords.plain(word)) in ("import_tasks", "include_tasks", "include")), None)
        if action is not None:
            brought = _included_file(one, action, merged(one, around), handlers=True)
            handlers += cast(tuple[Task, ...], brought)
            continue
        if "name" not in one.node and "listen" not in one.node:
            around.wrong.add(UserError("a handler needs a 'name'", where=one.node.where()))
        task = _task(one, around, keywords.HANDLER, "in a handler")
        if task is not None and (what := _no_handler(task)):
            around.wrong.add(UserError(f"{what} cannot be a handler", where=task.where))
        if task is not None and "name" in one.node and task.name in [other.name for other in handlers]:
            around.wrong.add(UserError(f"there are two handlers '{task.name}'", where=one.node.where("name")))
        handlers += [task] if task is not None else []
    return handlers


def _no_handler(task: Task) -> str | None:
    """Return what a handler cannot be and this one is."""
    if _meta(task) in ("flush_handlers", "end_role"):
        return f"'meta: {_meta(task)}'"
    return f"'{task.action}'" if task.action in keywords.COURSE and task.action != "meta" else None


def _node(entry: Entry, around: Scope) -> Node | None:
    words = {keywords.plain(word): word for word in entry.node}
    for action in (*keywords.STATIC, *keywords.DYNAMIC):
        if action in words:
            return _import(entry, action, around) if action in keywords.STATIC else _include(entry, action, around)
    if not any(key in entry.node for key in ("block", "rescue", "always")):
        return _task(entry, around, keywords.TASK, "in a task")
    _refuse(entry, keywords.BLOCK, (), "in a block")
    if "block" not in entry.node:
        around.wrong.add(UserError("'rescue' and 'always' need a 'block'", where=entry.node.where()))
    inside = merged(entry, around)
    return Block(entry.text("name") or "", *(nodes_of(entry, key, inside) for key in ("block", "rescue", "always")))


def _import(entry: Entry, action: str, around: Scope) -> Node | None:
    what = f"beside '{action}'"
    _refuse(entry, (*keywords.IMPORT, action), (), what)
    inside = merged(entry, around)
    name = entry.text("name") or ""
    if action != "import_role":
        return Block(name, _included_file(entry, action, inside))
    args = _literal_args(entry, action, inside)
    if args is None:
        return None
    return Block(name, role_nodes(str(args["name"]), args, inside, entry.at(_word(entry, action))))


def _included_file(entry: Entry, action: str, inside: Scope, *, handlers: bool = False) -> tuple[Node, ...]:
    args = _literal_args(entry, action, inside)
    if args is None:
        return ()
    where = entry.at(_word(entry, action))
    path = find_tasks(str(args["file"]), inside)
    with inside.wrong.gathered():
        if path is None:
            raise UserError(f"there is no file {inside.folder / str(args['file'])}", where=where)
        if path.resolve() in inside.files:
            raise UserError(f"{args['file']} includes itself", where=where)
        return file_nodes(path, inside, handlers=handlers)
    return ()


def find_tasks(name: str, scope: Scope) -> Path | None:
    """Return a file of tasks: beside the file that names it, in the role's tasks, in the playbook's folder."""
    places = [scope.folder, *((scope.role.path / "tasks", scope.role.path) if scope.role else ()), scope.playbook]
    return next((path for place in places if os.path.isfile(path := place / expanded(name))), None)


def _literal_args(entry: Entry, action: str, scope: Scope) -> Mapping[str, object] | None:
    args = _args(entry, action, scope)
    values = {name: value for name, value in args.items() if isinstance(value, Literal)}
    for name in sorted(set(args) - set(values)):
        instead = {"import_tasks": "include_tasks", "include": "include_tasks", "import_role": "include_role"}.get(action, action)
        where = entry.at(_word(entry, action))
        what = f"'{name}' of '{action}' is read when the playbook is loaded and cannot be an expression: use '{instead}'"
        scope.wrong.add(UserError(what, where=where))
    needed = [arg.name for arg in keywords.COURSE[action].args if arg.required]
    return {name: value.value for name, value in values.items()} if all(name in values for name in needed) else None


def _include(entry: Entry, action: str, around: Scope) -> Node | None:
    what = f"beside '{action}'"
    task = _task(entry, around, (*keywords.INCLUDE, action), what)
    if task is None:
        return None
    inside = replace(around, include_params={**around.include_params, **entry.variables("vars")})
    written = entry.node.get(_word(entry, action))
    if isinstance(written, Map) and "apply" in written:
        more = Entry(written, around.wrong).inner("apply")
        if more is not None:
            _refuse(more, ("when", *keywords.INHERITED), (), "in apply")
            inside = merged(more, inside)
    args = {name: value.value for name, value in task.args.items() if isinstance(value, Literal)}
    known: tuple[Node, ...] = ()
    needed = {arg.name for arg in keywords.COURSE[action].args if arg.required}
    if needed <= set(args) and set(task.args) - set(args) <= {"apply"} and len(around.files) < _DEEPEST:
        with around.wrong.gathered():
            # Values of a role that comes with it are there when it has come, and not before.
            play = replace(around.play, role_defaults={}, role_vars={})
            known = brought(task, args, replace(inside, play=play), running=False)
    return Include(task, inside, known)


def brought(task: Task, args: Mapping[str, object], inside: Scope, *, running: bool) -> tuple[Node, ...]:
    """Return what an include brings; a file that includes itself is followed only while it runs: then its condition ends it."""
    if len(inside.files) > _DEEPEST_OF_A_RUN:
        raise UserError(f"files include one another {_DEEPEST_OF_A_RUN} times: does a condition ('when') end it?", where=task.where)
    if task.action == "include_role":
        return role_nodes(str(args["name"]), args, inside, task.where, again=running)
    path = find_tasks(str(args["file"]), inside)
    if path is None:
        raise UserError(f"there is no file {inside.folder / str(args['file'])}", where=task.where)
    return () if path.resolve() in inside.files and not running else file_nodes(path, inside)


def role_nodes(
    name: str, args: Mapping[str, object], around: Scope, where: Location | None, use: Entry | None = None, *, again: bool | None = None
) -> tuple[Node, ...]:
    """Return the tasks of a role, those of the roles it depends on first; its handlers and values join the play's.

    ``again``: whether an include may bring tasks that it stands in itself; None where an import asks, which never ends then.
    """
    path = rolefolder.find_role(name, around, where)
    if path is None:
        return ()
    tasks = rolefolder.named_part(path, "tasks", args, around, where)
    inside_itself = tasks is not None and tasks.resolve() in around.files
    if path.resolve() in around.files or (inside_itself and again is None):
        around.wrong.add(UserError(f"the role '{name}' needs itself", where=where))
    if path.resolve() in around.files or (inside_itself and not again):
        return ()
    defaults, own = (rolefolder.values(path, folder, args, around, where) for folder in ("defaults", "vars"))
    params = _params(use) if use else {}
    about = rolefolder.meta(path, around.wrong)
    role = Role(path.name, path, defaults, own, params)
    before = replace(around, files=(*around.files, path.resolve()), role=rolefolder.joined(role, around.role, ()))
    needed = [node for one in rolefolder.uses(about, "dependencies") for node in role_use(one, before)]
    there = tuple(task.role for task in tasks_of(tuple(needed)) if task.role is not None)
    role = rolefolder.joined(role, around.role, there)
    around.play.role_defaults.update(role.defaults)
    around.play.role_vars.update(role.vars)
    if use is not None:
        role = replace(role, vars={**role.vars, **use.variables("vars")})
    inside = replace(around, role=role, folder=path / "tasks")
    handlers = rolefolder.named_part(path, "handlers", args, around, where)
    if handlers is not None:
        around.play.handlers += [task for task in file_nodes(handlers, inside, handlers=True) if isinstance(task, Task)]
    return (*needed, *(file_nodes(tasks, inside) if tasks is not None else ()))


def role_use(use: Entry, around: Scope) -> tuple[Node, ...]:
    """Return the tasks of an entry of ``roles`` or ``dependencies``; none where the same was asked for before."""
    name = use.text("role") or use.text("name")
    if name is None:
        around.wrong.add(UserError("a role needs 'role': its name", where=use.node.where()))
        return ()
    path = rolefolder.find_role(name, around, use.node.where())
    key = (path, dict(use.node))
    again = path is not None and rolefolder.meta(path, around.wrong).flag("allow_duplicates")
    if path is None or (key in around.play.roles and not again):
        return ()
    around.play.roles.append(key)
    inside = merged(Entry(_without_vars(use.node), around.wrong), around)
    return (Block("", role_nodes(name, {}, inside, use.node.where(), use)),)


def _without_vars(node: Map) -> Map:
    kept = copied(node)
    kept.pop("vars", None)
    return kept


def _params(use: Entry) -> Vars:
    params: dict[str, Value] = {}
    for key, item in use.node.items():
        if key not in keywords.ROLE_ENTRY:
            with use.wrong.gathered():
                if not VARIABLE.match(key):
                    raise UserError(f"'{key}' is not a variable name", where=use.node.where(key))
                if key in ("port", "remote_user"):
                    what = f"'{key}' is a keyword, not a variable: write vars: {{{key}: ...}}; how to log in is said of the whole play"
                    raise UserError(what, where=use.node.where(key))
                params[key] = compile_value(item, use.at(key))
    return params


def _task(entry: Entry, around: Scope, words: tuple[str, ...], what: str) -> Task | None:
    spelled = _spelled_out(entry)
    if spelled is None:
        return None
    entry = spelled
    actions = [word for word in entry.node if keywords.plain(word) in ACTIONS or keywords.plain(word) in keywords.COURSE]
    wrong = _refuse(entry, words, (*ACTIONS, *keywords.COURSE), what)
    if not actions and not wrong:
        around.wrong.add(UserError("the task has no action, such as shell, copy or template", where=entry.node.where()))
    if len(actions) > 1:
        around.wrong.add(UserError(f"the task has two actions: {actions[0]} and {actions[1]}", where=entry.node.where(actions[1])))
    scope = merged(entry, around)
    action = keywords.plain(actions[0]) if actions else "meta"
    args = _args(entry, action, scope) if actions else {}
    task = Task(
        name=entry.text("name") or (actions[0] if actions else ""), action=action, args=args, where=entry.node.where(), folder=scope.folder,
        search=scope.search, role=scope.role, when=scope.when, vars=scope.vars, include_params=scope.include_params,
        environment=scope.environment, tags=scope.tags, register=entry.name("register"), loop=_loop(entry), until=entry.condition("until"),
        retries=entry.value("retries"), delay=entry.value("delay"), changed_when=entry.condition("changed_when"),
        failed_when=entry.condition("failed_when"), notify=entry.words("notify"), listen=entry.words("listen"),
        no_log=scope.no_log is not None and (not isinstance(scope.no_log, Literal) or bool(scope.no_log.value)),
        no_log_says=None if isinstance(scope.no_log, Literal) else scope.no_log,
    )  # fmt: skip
    if scope.role is None and _meta(task) == "end_role":
        around.wrong.add(UserError("'meta: end_role' stands in a role", where=entry.at(actions[0])))
    return replace(task, **cast(dict[str, Any], scope.settings)) if actions else None


def _meta(task: Task) -> object:
    """Return what a meta task does, None where it is another one."""
    value = task.args.get("action")
    return value.value if task.action == "meta" and isinstance(value, Literal) else None


def _spelled_out(entry: Entry) -> Entry | None:
    """Return a task whose ``action:`` or ``local_action:`` stands under the action's own name, None where there is none such."""
    key = next((key for key in ("action", "local_action") if key in entry.node), None)
    if key is None:
        return entry
    written, mark = entry.node[key], entry.node.value_marks[key]
    module = written.get("module") if isinstance(written, Map) else None
    name, _, rest = (str(module), "", "") if module else str(written).strip().partition(" ")
    if not isinstance(written, str) and module is None:
        entry.wrong.add(UserError(f"'{key}' is an action with its arguments, or a mapping with 'module'", where=entry.at(key)))
        return None
    if keywords.plain(name) not in ACTIONS:
        entry.wrong.add(UserError(f"'{key}': there is no action '{name}'{suggest(name, ACTIONS)}", where=entry.at(key)))
        return None
    node = copied(entry.node)
    del node[key]
    inner = copied(written) if isinstance(written, Map) else None
    if inner is not None:
        inner.pop("module", None)
    put(node, name, inner if inner is not None else rest.strip() or None, mark)
    if key == "local_action":
        put(node, "delegate_to", "localhost", mark)
    return Entry(node, entry.wrong)


def _args(entry: Entry, action: str, scope: Scope) -> Args:
    schema = ACTIONS[action].schema if action in ACTIONS else keywords.COURSE[action]
    word, more = _word(entry, action), entry.inner("args")
    node = arguments(entry.node, word, schema, more.node if more else None, scope.defaults.get(action))
    with scope.wrong.gathered():
        return compile_args(schema, node, entry.at(word))
    return {}


def _loop(entry: Entry) -> Loop | None:
    words = [word for word in entry.node if word == "loop" or word in keywords.WITH]
    if len(words) > 1:
        entry.wrong.add(UserError(f"the task has two loops: {words[0]} and {words[1]}", where=entry.node.where(words[1])))
    items = entry.value(words[0]) if words else None
    if isinstance(items, Literal) and words[0] == "loop":
        entry.wrong.add(UserError("'loop' is a list or an expression", where=items.where))
    control = entry.inner("loop_control") or Entry(Map(), entry.wrong)
    for error in keywords.unknown_in(control.node, keywords.LOOP_CONTROL, (), "in loop_control"):
        entry.wrong.add(error)
    if items is None:
        return None
    return Loop(
        items, words[0].removeprefix("with_") if words[0] != "loop" else None, control.name("loop_var") or "item", control.value("label"),
        control.name("index_var"), control.value("pause"), bool(control.flag("extended")),
    )  # fmt: skip


def _refuse(entry: Entry, words: tuple[str, ...], actions: tuple[str, ...], what: str) -> bool:
    errors = keywords.unknown_in(entry.node, words, actions, what)
    for error in errors:
        entry.wrong.add(error)
    return bool(errors)


def _word(entry: Entry, action: str) -> str:
    """Return how an action is written."""
    return next(word for word in entry.node if keywords.plain(word) == action)
