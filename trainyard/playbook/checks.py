"""What can be known of a playbook before it runs: variables that nothing defines, sources that are not there, templates that are broken."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from jinja2 import TemplateSyntaxError

from trainyard.errors import Location, UserError, together
from trainyard.nearest import suggest
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.actions.files import TEMPLATE_WISHES
from trainyard.playbook.entries import Mistakes, read_vars
from trainyard.playbook.expressions import names_in_template
from trainyard.playbook.model import Block, Include, Node, Playbook, Task, tasks_of
from trainyard.playbook.schema import MOST
from trainyard.playbook.selection import BUILT_IN
from trainyard.playbook.sources import find_source
from trainyard.playbook.stepping import args_of, built
from trainyard.playbook.values import Condition, ListOf, Literal, MapOf, Text, Value, guarded_names, names_in
from trainyard.reading import Shape, read

_SECONDS = Shape(kind="number", least=0, most=MOST)
_NUMBERS = {"retries": _SECONDS, "delay": _SECONDS, "timeout": _SECONDS, "throttle": Shape(kind="whole", least=0, most=MOST)}
_ELSEWHERE = ("debug", "fail", "fetch", "s3")
"""Actions that read variables or keys, which only the run has, or fail on purpose."""
_READING = ("script", "synchronize")
"""Actions that read files of this machine, beside those whose arguments say so."""
_HINT = "What the command line is to bring is said there: -e NAME=VALUE."


@dataclass(slots=True)
class _Defined:
    """The variables that there can be; ``open``: more may come that are not known before the run."""

    known: set[str] = field(default_factory=set)
    open: bool = False
    facts: bool = False


def check_variables(playbook: Playbook, host_vars: Iterable[Mapping[str, object]], extra: Mapping[str, object]) -> None:
    """Raise UserError at each variable that nothing can define, with the nearest one that is."""
    known = set(extra) | {name for names_of_host in host_vars for name in names_of_host}
    wrong = _undefined(playbook, known, [])
    if wrong:
        raise together(wrong, "variables")


def check_everything(playbook: Playbook, host_vars: Iterable[Mapping[str, object]], extra: Mapping[str, object]) -> None:
    """Raise UserError for all that --syntax-check can find: variables, sources and templates."""
    wrong, needed = Mistakes(), list[tuple[str, Location | None]]()
    known = set(extra) | {name for names_of_host in host_vars for name in names_of_host}
    templates: dict[tuple[Path, tuple[tuple[str, Any], ...]], None] = {}
    for task, perhaps in _in_order(playbook):
        templates |= dict.fromkeys(_templates(task, wrong, perhaps=perhaps))
        _foresee(task, wrong, perhaps=perhaps)
    for path, wishes in templates:
        with wrong.gathered():
            needed += _needed(path, dict(wishes))
    for error in _undefined(playbook, known, needed):
        wrong.add(error)
    wrong.raise_all()


def _undefined(playbook: Playbook, known: set[str], needed: list[tuple[str, Location | None]]) -> list[UserError]:
    names = _Defined(set(BUILT_IN) | known)
    everything = [task for play in playbook.plays for task in (*tasks_of(play.tasks), *play.handlers)]
    values: list[Value | Condition] = []
    for play in playbook.plays:
        names.known |= {*play.vars, *play.role_defaults, *play.role_vars, *(prompt.name for prompt in play.prompts)}
        names.facts |= play.gather_facts is not None and not (isinstance(play.gather_facts, Literal) and not play.gather_facts.value)
        for file in play.vars_files:
            names.known |= set(file.known or {})
            names.open |= file.known is None
            values += (file.known or {}).values()
        names.open |= any(not node.known for node in _includes((*play.tasks,)))
        values += play.vars.values()
    for task in everything:
        _defined(task, names)
        values += _values_of(task)
    if names.open:
        return []
    guarded = {name for value in values for name in guarded_names(value)}
    places: dict[str, Location | None] = {}
    for name, where in (*(pair for value in values for pair in names_in(value)), *needed):
        if name not in names.known and name not in guarded and not (names.facts and name.startswith(("ansible_", "trainyard_gpus"))):
            places.setdefault(name, where)
    return [
        UserError(f"the variable '{name}' is not defined{suggest(name, names.known)}", where=where, hint=_HINT)
        for name, where in places.items()
    ]


def _defined(task: Task, names: _Defined) -> None:
    """Add the variables that a task brings."""
    names.known |= {task.register} if task.register else set()
    names.known |= {name for name in (task.loop.var, task.loop.index_var) if name} if task.loop else set()
    names.known |= {
        *task.vars,
        *task.include_params,
        *((*task.role.defaults, *task.role.vars, *task.role.params) if task.role else ()),
    }
    if task.action in ("set_fact", "add_host"):
        names.known |= set(task.args)
    names.facts |= task.action in ("setup", "gather_facts")
    names.open |= task.action in ("package_facts", "service_facts", "group_by")
    if task.action == "getent":
        database = task.args.get("database")
        names.known |= {f"getent_{database.value}"} if isinstance(database, Literal) else set()
        names.open |= not isinstance(database, Literal)
    if task.action == "include_vars":
        name, file = task.args.get("name"), task.args.get("file")
        if isinstance(name, Literal):
            names.known.add(str(name.value))
        elif isinstance(file, Literal) and (path := find_source(str(file.value), "vars", task.search)) and path.is_file():
            names.known |= set(read_vars(path, Mistakes()))
        else:
            names.open = True


def _includes(nodes: tuple[Node, ...]) -> Iterator[Include]:
    for node in nodes:
        if isinstance(node, Include):
            yield node
            yield from _includes(node.known)
        elif isinstance(node, Block):
            yield from _includes((*node.block, *node.rescue, *node.always))


def _values_of(task: Task) -> Iterator[Value | Condition]:
    """Yield all that a task renders; the values of its role are rendered where something reads them."""
    kinds = (Literal, Text, ListOf, MapOf, Condition)
    for part in fields(task):
        value = getattr(task, part.name)
        parts = value if isinstance(value, tuple) else value.values() if isinstance(value, Mapping) else (value,)
        yield from (one for one in parts if isinstance(one, kinds))
    if task.loop is not None:
        yield from (one for one in (task.loop.items, task.loop.label, task.loop.pause) if one is not None)


def _in_order(playbook: Playbook) -> Iterator[tuple[Task, bool]]:
    """Yield the tasks, each with whether files that it reads on this machine may be made before it, or not be read at all."""
    for play in playbook.plays:
        brought = False
        for task in (*tasks_of(play.tasks), *play.handlers):
            brought |= task.action == "fetch" or task.delegate_to is not None or play.hosts == ("localhost",)
            yield task, brought or bool(task.when)


def _templates(task: Task, wrong: Mistakes, *, perhaps: bool) -> Iterator[tuple[Path, tuple[tuple[str, Any], ...]]]:
    """Yield the templates that a task names, with the marks that they have there, and note the files that are not there."""
    for arg in ACTIONS[task.action].schema.args if task.action in ACTIONS else ():
        value = task.args.get(arg.name)
        if not arg.local or not isinstance(value, Literal) or not isinstance(value.value, str) or {"remote_src", "copy"} & set(task.args):
            continue
        path = None
        with wrong.gathered():
            path = find_source(value.value, arg.local, task.search)
        if path is not None and arg.local == "templates" and path.is_file():
            wishes = [(name, task.args[name]) for name in TEMPLATE_WISHES if name in task.args]
            if all(isinstance(wish, Literal) for _, wish in wishes):
                yield path, tuple((name, cast(Literal, wish).value) for name, wish in wishes)
        elif path is None and not perhaps and "://" not in value.value:
            folders = ", ".join(str(folder) for folder in task.search)
            wrong.add(UserError(f"'{task.action}': there is no '{value.value}' in {folders}, nor in their {arg.local}", where=value.where))


def _foresee(task: Task, wrong: Mistakes, *, perhaps: bool) -> None:
    """Note what the run would say of words that hold no expression: numbers, and what an action makes of its arguments."""
    for name, shape in _NUMBERS.items():
        value = getattr(task, name)
        if isinstance(value, Literal):
            with wrong.gathered(value.where):
                read(shape, value.value, f"'{name}'")
    action = ACTIONS.get(task.action)
    if (
        action is None
        or not all(isinstance(value, Literal) for value in task.args.values())
        or any(arg.local for arg in action.schema.args)
        or task.action in _ELSEWHERE
        or (task.action in _READING and perhaps)
    ):
        return
    with wrong.gathered(task.where):
        built(task, args_of(task, {}), {})


def _needed(path: Path, wishes: Mapping[str, Any]) -> list[tuple[str, Location | None]]:
    """Return the variables that a template needs, each with a line that names it. Raises UserError where it is broken."""
    try:
        names = names_in_template(path, wishes)
    except TemplateSyntaxError as error:
        raise UserError(f"broken template: {error.message}", where=Location(str(path), error.lineno)) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text (UTF-8)") from None
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs: list[tuple[str, Location | None]] = []
    for name in sorted(names):
        pattern = re.compile(rf"\b{name}\b")
        number = next((number for number, line in enumerate(lines, 1) if pattern.search(line)), 1)
        pairs.append((name, Location(str(path), number, 1, lines[number - 1] if lines else None)))
    return pairs
