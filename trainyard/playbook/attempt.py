"""One task on one host: conditions, loop, attempts, and what counts as changed and as failed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

from trainyard.errors import TrainyardError, Unreachable, UserError
from trainyard.nearest import suggest
from trainyard.playbook import ways
from trainyard.playbook.actions.facts import keep
from trainyard.playbook.ahead import SentAhead
from trainyard.playbook.carrying import Carriage, carry_out
from trainyard.playbook.ending import Endable
from trainyard.playbook.expressions import SEARCHED
from trainyard.playbook.hosts.magic import of_role
from trainyard.playbook.looping import looped
from trainyard.playbook.model import Play, Task
from trainyard.playbook.perform import Scene
from trainyard.playbook.report import HIDDEN, Reporter, Status, hidden
from trainyard.playbook.schema import MOST
from trainyard.playbook.stepping import environment_of
from trainyard.playbook.steps import Get, Outcome, Step
from trainyard.playbook.values import Value, Variables, boolean, compile_value
from trainyard.reading import Shape, read
from trainyard.remote.frame import NotRun
from trainyard.remote.protocol import Transport
from trainyard.remote.transport import LocalTransport
from trainyard.retries import LINK
from trainyard.secret import Secret, redact

RETRIES = 3
DELAY = 5.0


class RetryClock(Protocol):
    """What waiting between two attempts needs; tests pass their own."""

    def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """What holds for a whole run."""

    extra: Mapping[str, object]
    check: bool
    diff: bool
    reporter: Reporter
    clock: RetryClock
    secrets: tuple[Secret, ...] = ()
    here: Endable = field(default_factory=lambda: Endable(LocalTransport()))
    """This machine, for tasks that are delegated to it."""
    ways: dict[str, Endable] = field(default_factory=dict)
    """The hosts of the run, for tasks that are delegated to them."""
    users: dict[Transport, Transport] = field(default_factory=dict)
    """The ways to be another user, each once: what is known of one is known of the next task's."""
    become: bool = False
    """Tasks become another user where nothing says whether they do."""
    homes: dict[str, str] = field(default_factory=dict)
    """Local path -> the host whose file was brought there."""

    def claim(self, path: Path, host: str) -> None:
        """Take a local path for what a host's file is fetched to. Raises UserError when another host's lies there."""
        owner = self.homes.setdefault(os.path.realpath(path), host)
        if owner != host:
            instead = "leave 'flat' out, or put {{ inventory_hostname }} into 'dest'"
            raise UserError(f"'fetch': {path} came from {owner}, {host} would overwrite it: {instead}")

    def show(self, host: str, task: Task, ended: TaskEnd, label: str | None) -> None:
        """Report how a task ended, without any secret."""
        result = cast(Outcome, hidden(ended.result, list(self.secrets))) if self.secrets else ended.result
        self.reporter.outcome(host, task, ended.status, result, label)


@dataclass(slots=True)
class HostState:
    """A host on its way through the plays."""

    name: str
    transport: Endable
    vars: Mapping[str, object]
    play: Play | None = None
    """The one it is in now."""
    prompted: Mapping[str, object] = field(default_factory=dict)
    from_files: Mapping[str, object] = field(default_factory=dict)
    """Of the play's vars_files."""
    included: dict[str, object] = field(default_factory=dict)
    """What include_vars has read."""
    system_facts: dict[str, object] = field(default_factory=dict)
    """What setup and its like have found out; in ``facts`` is what set_fact and register keep."""
    facts: dict[str, object] = field(default_factory=dict)
    notified: set[str] = field(default_factory=set)
    ended: bool = False
    """Whether the play is over for this host, without any failure."""
    handlers: frozenset[str] = frozenset()
    """The names and topics by which handlers of the play are notified."""
    ahead: SentAhead = field(default_factory=SentAhead)
    magic: dict[str, object] = field(default_factory=dict)
    """What is there by itself, and cannot be set."""

    def own(self, settings: PlayOptions) -> dict[str, object]:
        """Return what other hosts see of its variables: those of no play and no task."""
        return {**self.vars, **self.system_facts, **self.facts, **settings.extra, **self.magic}

    def variables(self, task: Task, settings: PlayOptions) -> dict[str, object]:
        """Return all variables of a task, the weakest first: this is Ansible's order, and the only place that knows it."""
        play, role = self.play, task.role
        return {
            **(play.role_defaults if play else {}), **(role.defaults if role else {}),
            **self.vars, **self.system_facts,
            **(play.vars if play else {}), **self.prompted,
            **self.from_files,
            **(play.role_vars if play else {}), **(role.vars if role else {}),
            **task.vars, **self.included, **self.facts,
            **(role.params if role else {}), **task.include_params, **settings.extra,
            **self.magic, **of_role(role), "inventory_hostname": self.name, "check_mode": settings.check,
            SEARCHED: task.search or (task.folder,),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended on a host."""

    status: Status
    result: Outcome
    ignored: bool = False
    """Whether an unreachable host goes on all the same."""
    shown: bool = False
    """Whether no item was hidden, though the task may hide some."""


def run_task(task: Task, host: HostState, settings: PlayOptions) -> TaskEnd:
    """Run a task on a host, keep what it registers and notifies, and report it."""
    variables = host.variables(task, settings)
    try:
        ended = _loop(task, host, settings, variables) if task.loop is not None else _one(task, host, settings, variables, None)
    except Unreachable as error:
        if isinstance(error, NotRun):
            error.message = redact(error.plain if task.no_log else error.message, list(settings.secrets))
        result: Outcome = {"changed": False, "unreachable": True, "failed": True, "msg": error.message, "error": error}
        ended = TaskEnd("unreachable", result, ignored=flag(task.ignore_unreachable, variables))
        settings.show(host.name, task, ended, None)
    except TrainyardError as error:
        ended = _failed(task, str(error))
        settings.show(host.name, task, ended, None)
    if task.register:
        host.facts[task.register] = ended.result
    return _notified(task, host, settings, variables, ended) if ended.result.get("changed") and task.notify else ended


def _notified(task: Task, host: HostState, settings: PlayOptions, variables: dict[str, object], ended: TaskEnd) -> TaskEnd:
    """Notify the task's handlers; who names one that is not there has failed, for it would never run."""
    names = {str(compile_value(name, task.where).render(variables)) for name in task.notify}
    if unknown := names - host.handlers:
        said = f"there is no handler '{min(unknown)}'{suggest(min(unknown), host.handlers)}"
        ended = _failed(task, str(UserError(said, where=task.where)))
        settings.show(host.name, task, ended, None)
    host.notified.update(names & host.handlers)
    return ended


def flag(value: Value | None, variables: Variables) -> bool:
    """Return what a switch of a task says now; none is off."""
    return value is not None and boolean(value.render(variables), value.where)


def _loop(task: Task, host: HostState, settings: PlayOptions, variables: dict[str, object]) -> TaskEnd:
    loop = task.loop
    assert loop is not None
    ends: list[TaskEnd] = []
    hid = False
    for _, inside in looped(task, variables):
        item, each = inside[loop.var], _as_shown(task, inside)
        hid = hid or each.no_log
        if ends and loop.pause is not None:
            settings.clock.sleep(_number(loop.pause, inside, 0))
        label = HIDDEN if each.no_log else str(item if loop.label is None else loop.label.render(inside))
        ends.append(_one(each, host, settings, inside, label))
        if loop.var != "item":
            ends[-1].result[loop.var] = item
        ends[-1].result["item"] = item
    statuses = [end.status for end in ends]
    result: Outcome = {
        "results": [end.result for end in ends],
        "changed": any(end.result.get("changed") for end in ends),
        "failed": any(status in ("failed", "ignored") for status in statuses),
        "skipped": all(status == "skipped" for status in statuses),
    }
    if not ends:
        settings.show(host.name, task, TaskEnd("skipped", result), None)
    if result["skipped"]:  # or there was nothing
        return TaskEnd("skipped", result)
    for status in ("failed", "ignored", "changed"):
        if status in statuses:
            bad = [end.result for end in ends if end.status == status]
            return TaskEnd(status, {**result, "msg": bad[0].get("msg", "")} if status != "changed" else result, shown=not hid)
    return TaskEnd("ok", result)


def _as_shown(task: Task, inside: Variables) -> Task:
    """Return a task as it is for an item of its loop: one whose no_log is an expression hides those for which that is true."""
    if task.no_log_says is None:
        return task
    try:
        return replace(task, no_log=flag(task.no_log_says, inside))
    except TrainyardError:
        return task


def _one(task: Task, host: HostState, settings: PlayOptions, variables: dict[str, object], label: str | None) -> TaskEnd:
    try:
        if all(condition.holds(variables) for condition in task.when):
            ended = _attempts(task, host, settings, variables)
        else:
            ended = TaskEnd("skipped", {"changed": False, "skipped": True, "msg": "the condition does not hold"})
    except Unreachable:
        raise
    except TrainyardError as error:
        ended = _failed(task, str(error), variables)
    to = None if task.delegate_to is None or ended.status == "skipped" else ways.delegate(task, variables)
    settings.show(f"{host.name} -> {to}" if to else host.name, task, ended, label)
    return ended


def _attempts(task: Task, host: HostState, settings: PlayOptions, variables: dict[str, object]) -> TaskEnd:
    repeats = task.until is not None or task.retries is not None
    left = int(_number(task.retries, variables, RETRIES)) if repeats and not settings.check else 0
    delay = _number(task.delay, variables, DELAY)
    attempt = 1
    while True:
        result = _attempt(task, host, settings, variables)
        result["attempts"] = attempt
        known = {**variables, "result": result, **({task.register: result} if task.register else {})}
        _judge(task, result, known)
        done = task.until.holds(known) if task.until is not None and not result.get("skipped") else not result.get("failed")
        if done or left <= 0:
            if not done and not result.get("failed"):
                result |= {"failed": True, "msg": f"'until' does not hold after {attempt} attempts"}
            return _task_end(task, result, known)
        settings.reporter.retrying(host.name, task, left)
        settings.clock.sleep(delay)
        left, attempt = left - 1, attempt + 1


def _attempt(task: Task, host: HostState, settings: PlayOptions, variables: dict[str, object]) -> Outcome:
    scene = scene_of(task, host, settings, variables)
    item = None if task.loop is None else variables.get(task.loop.var)

    def claim(step: Step) -> None:
        if isinstance(step, Get):
            settings.claim(step.dest, host.name)

    def lost(why: str, tries: int) -> None:
        settings.reporter.lost(host.name, task, redact(why, list(settings.secrets)), tries)
        settings.clock.sleep(LINK.pause(tries - 1))

    way = Carriage(scene, claim, lambda step: host.ahead.perform(task, item, step, scene), lambda: host.ahead.doubted(task, item), lost)
    outcome = carry_out(task, variables, way)
    for name, kept in (("facts", host.facts), ("system_facts", host.system_facts), ("included", host.included)):
        keep(kept, outcome.pop(name, None))
    return outcome


def scene_of(task: Task, host: HostState, settings: PlayOptions, variables: Variables) -> Scene:
    """Return where and how a task is done."""
    timeout = None if task.timeout is None else _number(task.timeout, variables, 0)
    way = ways.way_of(task, host.transport, settings.here, settings.ways, variables, become=settings.become)
    check = settings.check if task.check_mode is None else flag(task.check_mode, variables)
    diff = settings.diff if task.diff is None else flag(task.diff, variables)
    return Scene(settings.users.setdefault(way, way), check, diff, timeout, environment_of(task, variables))


def _judge(task: Task, result: Outcome, known: Variables) -> None:
    if result.get("skipped"):
        return
    if task.changed_when is not None:
        result["changed"] = task.changed_when.holds(known)
    if task.failed_when is not None:
        failed = result["failed"] = result["failed_when_result"] = task.failed_when.holds(known)
        if failed and "msg" not in result:
            result["msg"] = "failed_when: " + " and ".join(task.failed_when.sources)
    result.setdefault("failed", False)


def _task_end(task: Task, result: Outcome, known: Variables) -> TaskEnd:
    if result.get("failed"):
        return _failed(task, None, known, result)
    if result.get("skipped"):
        return TaskEnd("skipped", result)
    return TaskEnd("changed" if result.get("changed") else "ok", result)


def _failed(task: Task, message: str | None, known: Variables | None = None, result: Outcome | None = None) -> TaskEnd:
    result = result if result is not None else {"changed": False, "failed": True, "msg": message}
    ignore = False if task.ignore_errors is None else boolean(task.ignore_errors.render(known or {}), task.ignore_errors.where)
    return TaskEnd("ignored" if ignore else "failed", result)


def _number(value: Value | None, variables: Variables, default: float) -> float:
    if value is None:
        return default
    try:
        return float(str(read(Shape(kind="number", least=0, most=MOST), value.render(variables), "a number of tries or seconds")))
    except UserError as error:
        raise UserError(error.message, where=error.where or value.where) from None
