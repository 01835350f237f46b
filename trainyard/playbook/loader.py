"""Read a playbook strictly: every word, argument and expression is checked here, before anything connects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.playbook import documents, keywords
from trainyard.playbook.entries import Entry, Mistakes, mapping
from trainyard.playbook.model import Block, Include, Node, Play, Playbook, Task, Vars, VarsPrompt, tasks_of
from trainyard.playbook.rolefolder import uses
from trainyard.playbook.scope import Gathered, Scope, merged
from trainyard.playbook.taskfile import brought, handlers_of, nodes_of, role_use
from trainyard.playbook.values import Condition, Literal, Value
from trainyard.playbook.varsfiles import vars_files
from trainyard.textfile import expanded
from trainyard.yamlfile import Seq


@dataclass(frozen=True, slots=True)
class Included:
    """What an include has brought."""

    nodes: tuple[Node, ...]
    handlers: tuple[Task, ...]
    role_defaults: Vars
    role_vars: Vars


def load(path: Path) -> Playbook:
    """Read and check a playbook. Raises UserError with each mistake at its file:line:col."""
    return load_all([path])[0]


def load_all(paths: Sequence[Path]) -> list[Playbook]:
    """Read and check several playbooks. Raises UserError with the mistakes of all of them."""
    wrong = Mistakes()
    playbooks = [Playbook(path, tuple(_plays(path, wrong, (path.resolve(),)))) for path in paths]
    wrong.raise_all()
    return playbooks


def included(include: Include, args: Mapping[str, object], params: Vars) -> Included:
    """Return what an include brings when the run comes to it, with its rendered arguments; ``params``: variables of this time."""
    scope = cast(Scope, include.scope)
    play = Gathered(Mistakes())
    inside = replace(scope, play=play, include_params={**scope.include_params, **params})
    with play.wrong.gathered():
        nodes = brought(include.task, args, inside, running=True)
    play.wrong.raise_all()
    return Included(nodes, tuple(play.handlers), play.role_defaults, play.role_vars)


def _plays(path: Path, wrong: Mistakes, files: tuple[Path, ...]) -> Iterator[Play]:
    with wrong.gathered():
        document = documents.load(path)
        if not isinstance(document, Seq) or not document:
            raise UserError("a playbook is a list of plays", where=Location(str(path), 1))
        for index, item in enumerate(document):
            with wrong.gathered():
                entry = Entry(mapping(item, document.where(index), "a play"), wrong)
                if any(keywords.plain(word) == "import_playbook" for word in entry.node):
                    yield from _imported(entry, path, files)
                else:
                    yield _play(entry, path)


def _imported(entry: Entry, path: Path, files: tuple[Path, ...]) -> Iterator[Play]:
    for error in keywords.unknown_in(entry.node, keywords.IMPORT_PLAYBOOK, (), "beside 'import_playbook'"):
        entry.wrong.add(error)
    word = next(word for word in entry.node if keywords.plain(word) == "import_playbook")
    name, where = entry.text(word) or "", entry.at(word)
    other = path.parent / expanded(name)
    if "{{" in name:
        raise UserError("a playbook is imported when the first one is loaded: its name cannot be an expression", where=where)
    if not os.path.isfile(other):
        raise UserError(f"there is no file {other}", where=where)
    if other.resolve() in files:
        raise UserError(f"{name} imports itself", where=where)
    around = merged(entry, Scope(Gathered(entry.wrong), path.parent, path.parent))
    for play in _plays(other, entry.wrong, (*files, other.resolve())):
        tasks = tuple(_beneath(node, around.tags, around.when) for node in play.tasks)
        yield replace(play, vars={**play.vars, **around.vars}, tasks=tasks)


def _beneath(node: Node, tags: frozenset[str], when: tuple[Condition, ...]) -> Node:
    """Return tasks with tags and conditions of the import that they came by."""
    if isinstance(node, Task):
        return replace(node, tags=node.tags | tags, when=(*when, *node.when))
    if isinstance(node, Include):
        scope = cast(Scope, node.scope)
        inside = replace(scope, tags=scope.tags | tags, when=(*when, *scope.when))
        task = replace(node.task, tags=node.task.tags | tags, when=(*when, *node.task.when))
        return Include(task, inside, tuple(_beneath(one, tags, when) for one in node.known))
    return Block(node.name, *(tuple(_beneath(one, tags, when) for one in part) for part in (node.block, node.rescue, node.always)))


def _play(entry: Entry, path: Path) -> Play:
    wrong, folder = entry.wrong, path.parent
    for error in keywords.unknown_in(entry.node, keywords.PLAY, (), "in a play"):
        wrong.add(error)
    if not entry.node.get("hosts"):
        wrong.add(UserError("a play needs 'hosts'", where=entry.node.where("hosts")))
    _check_fixed(entry)
    gathered = Gathered(wrong)
    # A play's own variables are weaker than those of hosts: they do not become its tasks' own.
    base = replace(merged(entry, Scope(gathered, folder, folder, (path.resolve(),))), vars={})
    parts = {key: nodes_of(entry, key, base) for key in ("pre_tasks", "tasks", "post_tasks")}
    roles = tuple(node for use in uses(entry, "roles") for node in role_use(use, base))
    own = handlers_of(entry, "handlers", base)
    taken = {handler.name for handler in own}
    handlers = (*(handler for handler in gathered.handlers if handler.name not in taken), *own)
    before = _flushed(base) if parts["pre_tasks"] else ()
    tasks = (*_gathering(entry, base), *parts["pre_tasks"], *before, *roles, *parts["tasks"], *_flushed(base), *parts["post_tasks"])
    _check_notifications((*tasks_of(tasks), *handlers), handlers, wrong)
    _check_ways((*tasks_of(tasks), *handlers), wrong)
    hosts = entry.texts("hosts")
    serial = entry.value("serial")
    return Play(
        name=entry.text("name") or ",".join(hosts), hosts=hosts, tasks=tasks, handlers=handlers, vars=entry.variables("vars"),
        where=entry.node.where(), prompts=_prompts(entry), vars_files=vars_files(entry, folder), role_defaults=gathered.role_defaults,
        role_vars=gathered.role_vars, serial=_each(serial), max_fail_percentage=entry.value("max_fail_percentage"),
        any_errors_fatal=base.settings.get("any_errors_fatal"), force_handlers=entry.switch("force_handlers"),
        gather_facts=entry.switch("gather_facts"), remote_user=entry.value("remote_user") or entry.value("user"),
        port=entry.value("port"), folder=folder, free=keywords.plain(entry.text("strategy") or "linear") != "linear",
    )  # fmt: skip


def _check_fixed(entry: Entry) -> None:
    """Refuse a strategy or an order of hosts that is not there."""
    for key, known in (("strategy", keywords.STRATEGIES), ("order", ("inventory",))):
        word = entry.text(key)
        if word is not None and keywords.plain(word) not in known:
            what = f"'{key}: {word}' is not supported: there are {', '.join(known)}{suggest(word, known)}"
            entry.wrong.add(UserError(what, where=entry.at(key)))


def _gathering(entry: Entry, base: Scope) -> tuple[Node, ...]:
    """Return the task that asks the hosts what they are; none where the play does not say that it wants to know."""
    if not entry.flag("gather_facts"):
        return ()
    where = entry.node.where("gather_facts")
    return (Task("Gathering Facts", "setup", {}, where, base.folder, environment=base.environment, tags=frozenset({"always"})),)


def _flushed(base: Scope) -> tuple[Node, ...]:
    """Return the task that runs the handlers behind a part of a play."""
    args = {"action": Literal("flush_handlers")}
    return (Task("flush_handlers", "meta", args, None, base.folder, tags=frozenset({"always"})),)


def _each(value: Value | None) -> tuple[Value, ...]:
    items = getattr(value, "items", None)
    return tuple(items) if isinstance(items, tuple) else () if value is None else (value,)


def _prompts(entry: Entry) -> tuple[VarsPrompt, ...]:
    prompts = []
    for one in entry.entries("vars_prompt", "an entry of vars_prompt"):
        for error in keywords.unknown_in(one.node, keywords.PROMPT, (), "in vars_prompt"):
            entry.wrong.add(error)
        name = one.name("name")
        if "name" not in one.node:
            entry.wrong.add(UserError("an entry of vars_prompt needs 'name'", where=one.node.where()))
        private = one.flag("private")
        if name is not None:
            text = one.text("prompt") or name
            prompts.append(VarsPrompt(name, text, one.node.where(), private is not False, one.value("default"), bool(one.flag("confirm"))))
    return tuple(prompts)


def _check_ways(tasks: tuple[Task, ...], wrong: Mistakes) -> None:
    """Refuse variables about the way to a host where they would come too late."""
    for task in tasks:
        role = (task.role.defaults, task.role.vars, task.role.params) if task.role else ()
        for own in (*role, task.vars, task.args if task.action == "set_fact" else {}):
            for name in (name for name in keywords.WAY if name in own):
                what = f"'{name}' comes too late here: a play says how its hosts are reached"
                instead = "Say it in the play's vars or in the inventory; for one task 'connection: local' or 'delegate_to'."
                wrong.add(UserError(what, where=cast(Value, own[name]).where, hint=instead))


def _check_notifications(tasks: tuple[Task, ...], handlers: tuple[Task, ...], wrong: Mistakes) -> None:
    if any(task.action == "include_role" and not isinstance(task.args.get("name"), Literal) for task in tasks):
        return  # which handlers it brings is known only then
    known = {name for handler in handlers for name in (handler.name, handler.title, *handler.listen)}
    for task in tasks:
        for name in task.notify:
            if name not in known and "{{" not in name:
                wrong.add(UserError(f"there is no handler '{name}'{suggest(name, known)}", where=task.where))
