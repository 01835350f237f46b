"""How a play goes on some hosts at once: tasks in order, blocks, includes, handlers, and who drops out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from trainyard.errors import TrainyardError, Unreachable, UserError
from trainyard.playbook import including
from trainyard.playbook.attempt import HostState, TaskEnd, flag, run_task
from trainyard.playbook.ending import side_by_side
from trainyard.playbook.model import Block, Include, Node, Play, Role, Task
from trainyard.playbook.outlook import look_ahead
from trainyard.playbook.report import HIDDEN, HostFailure
from trainyard.playbook.selection import chosen
from trainyard.playbook.standing import Standing
from trainyard.playbook.values import Value, compile_value
from trainyard.secret import redact

_EACH = ("noop", "flush_handlers", "reset_connection", "end_host", "end_role")
"""What a meta task does to each host by itself."""
_FEWER = "ended with the others: too many hosts have failed"


@dataclass(frozen=True, slots=True)
class DroppedHost:
    """A host that failed at a task and may still be rescued."""

    host: HostState
    failure: HostFailure
    action: str
    shown: dict[str, object]
    """Its result, as far as it may be shown."""


Way = tuple[list[HostState], list[DroppedHost]]
"""The hosts that got through, and those that failed on the way."""


class Course:
    """One batch of hosts on its way through a play."""

    def __init__(self, play: Play, batch: list[HostState], alive: list[str], standing: Standing) -> None:
        self._play, self._batch, self._alive, self._standing = play, batch, alive, standing
        self._settings = standing.settings
        self._due: dict[str, set[int]] = {host.name: set() for host in batch}
        self._left: dict[str, list[Role]] = {host.name: [] for host in batch}
        """The roles that are over for a host; each use of a role is one of its own."""
        self.play_ended = False
        """Whether the play is over for all batches."""
        self._handlers: list[Task] = []
        self._know(play.handlers)

    def run(self) -> None:
        """Run the tasks, then the handlers that were notified; what one of these notifies before itself waits for the next flush."""
        try:
            alive, _ = self._nodes(self._play.tasks, self._batch, rescued=False)
            self._drop(self._flush([host for host in self._with_forced(alive) if not host.ended])[1])
        finally:
            for host in self._batch:
                host.notified.clear()
                host.ended = False

    def _with_forced(self, alive: list[HostState]) -> list[HostState]:
        """Return these hosts, and those that have failed but whose handlers run all the same (force_handlers)."""
        if self._play.force_handlers is None or not flag(self._play.force_handlers, self._play_variables()):
            return alive
        failures = self._standing.failures
        left = [one for one in self._batch if one.name in failures and not failures[one.name].unreachable]
        return [host for host in self._batch if host in alive or host in left]

    def _play_variables(self) -> dict[str, object]:
        return {**self._play.vars, **self._settings.extra}

    def _nodes(self, nodes: Sequence[Node], hosts: list[HostState], *, rescued: bool) -> Way:
        """Run nodes one after the other; return the hosts that got through and those that failed on the way."""
        lost: list[DroppedHost] = []
        for number, node in enumerate(nodes):
            hosts = [host for host in hosts if not host.ended]
            self._tell()
            if not hosts:
                break
            doing = hosts if isinstance(node, Block) else [host for host in hosts if not self._has_left(host, _role_of(node))]
            through, failed = self._node(nodes[number:], doing, rescued=rescued) if doing else ([], [])
            hosts = [host for host in hosts if host in through or host not in doing]
            lost += failed
            if not rescued:  # nothing saves them any more
                self._drop(failed)
                hosts = self._if_few_failed(hosts)
        return hosts, lost

    def _node(self, nodes: Sequence[Node], hosts: list[HostState], *, rescued: bool) -> Way:
        """Run the first of some nodes."""
        match nodes[0]:
            case Task(action="meta") as task:
                return self._meta(task, hosts)
            case Task() as task:
                look_ahead(nodes, hosts, self._play, self._settings, self._standing.forks)
                return self._task(self._as_shown(task, hosts), hosts, rescued=rescued)
            case Include() as include:
                shown = replace(include, task=self._as_shown(include.task, hosts))
                return self._include(shown, hosts, rescued=rescued)
            case Block() as block:
                return self._block(block, hosts, rescued=rescued)

    def _has_left(self, host: HostState, role: Role | None) -> bool:
        """Tell whether a role, or one that brought it, is over for a host."""
        while role is not None and not any(role is one for one in self._left[host.name]):
            role = role.within
        return role is not None

    def _as_shown(self, task: Task, hosts: list[HostState]) -> Task:
        """Return a task as one that hides nothing, where its no_log is an expression that hides it on no host; items say it each."""
        if task.loop is not None:
            return task
        try:
            hidden = task.no_log_says is None or any(self._flag(task, task.no_log_says, host) for host in hosts)
        except TrainyardError:
            return task
        return task if hidden else replace(task, no_log=False)

    def _block(self, node: Block, hosts: list[HostState], *, rescued: bool) -> Way:
        alive, lost = self._nodes(node.block, hosts, rescued=rescued or bool(node.rescue))
        if node.rescue and lost:
            for one in lost:
                task = {"name": one.failure.task, "action": one.action}
                one.host.facts |= {"failed_task": task, "failed_result": one.shown}
                one.host.facts |= {"ansible_failed_task": task, "ansible_failed_result": one.shown}
            saved, lost = self._nodes(node.rescue, [one.host for one in lost], rescued=rescued)
            alive += saved
        if node.always:
            why = {one.host.name: one for one in lost}
            through, failed = self._nodes(node.always, alive + [one.host for one in lost], rescued=rescued)
            lost = [*why.values(), *(one for one in failed if one.host.name not in why)]
            alive = [host for host in through if host.name not in why]
        return [host for host in hosts if host in alive], lost

    def _include(self, node: Include, hosts: list[HostState], *, rescued: bool) -> Way:
        self._settings.reporter.task(including.title(node.task) or self._title(node.task, hosts[0]))
        once = self._flag(node.task, node.task.run_once, hosts[0])
        doing = hosts[:1] if once else hosts
        groups, ends = including.groups_of(node.task, doing, self._settings)
        alive, lost = self._judged(node.task, doing, [ends[host.name] for host in doing], rescued=rescued)
        alive += hosts[len(doing) :]
        brought: list[tuple[Sequence[HostState], tuple[Node, ...]]] = []
        for group in groups:
            joins = including.bring(node, group)
            if isinstance(joins, TaskEnd):
                for host in group.hosts:
                    self._settings.show(host.name, node.task, joins, group.label)
                lost += self._judged(node.task, group.hosts, [joins] * len(group.hosts), rescued=False)[1]
                continue
            self._settings.reporter.included(group.name, [host.name for host in group.hosts], group.label)
            for host in group.hosts:
                self._standing.tallies[host.name].ok += 1
            self._know(joins.handlers)
            brought.append((group.hosts, chosen(joins.nodes, self._standing.tags)))
        for wanting, nodes in brought:
            out = {one.host.name for one in lost} | self._standing.unreachable()
            alive = [host for host in alive if host.name not in out]
            lost += self._nodes(nodes, [host for host in alive if host in wanting], rescued=rescued)[1]
        out = {one.host.name for one in lost} | self._standing.unreachable()
        return [host for host in alive if host.name not in out], lost

    def _tell(self) -> None:
        """Let the hosts know who is still among them."""
        for names in (self._standing.alive, self._alive):
            names[:] = [name for name in names if name not in self._standing.failures]

    # ---- one task

    def _task(self, task: Task, hosts: list[HostState], *, rescued: bool, handler: bool = False) -> Way:
        self._settings.reporter.task(self._title(task, hosts[0]), handler=handler)
        doing, done = hosts, list[TaskEnd | None]()
        try:
            once = self._flag(task, task.run_once, hosts[0])
            fatal = once or self._flag(task, task.any_errors_fatal, hosts[0])
            doing = hosts[:1] if once else hosts
            ends = side_by_side(lambda host: run_task(task, host, self._settings), doing, self._at_once(task, hosts[0]), done)
        except KeyboardInterrupt:
            self._judged(task, doing[: len(done)], done, rescued=rescued)  # what was shown is in the recap
            raise
        except UserError as error:
            doing, fatal, once = hosts, False, False
            ends = [TaskEnd("failed", {"changed": False, "failed": True, "msg": str(error)}) for _ in hosts]
            for host, ended in zip(hosts, ends, strict=True):
                self._settings.show(host.name, task, ended, None)
        alive, lost = self._judged(task, doing, ends, rescued=rescued)
        others = [host for host in hosts if host not in doing]
        if once:
            self._share(task, doing[0], others)
        if fatal and len(alive) < len(doing):
            lost += [DroppedHost(host, HostFailure(host.name, task.name, _FEWER), task.action, {}) for host in alive + others]
            return [], lost
        return [host for host in hosts if host in alive or host in others], lost

    def _judged(self, task: Task, hosts: list[HostState], ends: Sequence[TaskEnd | None], *, rescued: bool) -> Way:
        """Count how a task ended on each host (None: nothing to count); return who goes on and who does not."""
        alive: list[HostState] = []
        lost: list[DroppedHost] = []
        for host, ended in zip(hosts, ends, strict=True):
            if ended is not None:
                self._standing.count(host.name, ended, rescued)
            error = cast(Unreachable, ended.result.pop("error")) if ended is not None and ended.status == "unreachable" else None
            if error is not None and ended is not None and not ended.ignored:
                self._standing.failures[host.name] = HostFailure(host.name, task.name, error.message, error)
            elif ended is not None and ended.status == "failed":
                hides = task.no_log and not ended.shown
                message = f"the output is {HIDDEN}" if hides else redact(_reason(ended), list(self._settings.secrets))
                hidden: dict[str, object] = {"changed": bool(ended.result.get("changed")), "failed": True, "msg": HIDDEN}
                shown = hidden if hides else ended.result
                lost.append(DroppedHost(host, HostFailure(host.name, task.name, message), task.action, shown))
            else:
                alive.append(host)
        return alive, lost

    def _share(self, task: Task, one: HostState, others: Iterable[HostState]) -> None:
        """Give the result of a task that ran once to all hosts."""
        names = ({task.register} if task.register else set()) | (set(task.args) if task.action == "set_fact" else set())
        for host in others:
            host.facts |= {name: one.facts[name] for name in names if name in one.facts}

    def _at_once(self, task: Task, host: HostState) -> int:
        most = self._standing.forks
        if task.throttle is None:
            return most
        asked = task.throttle.render(host.variables(task, self._settings))
        return min(most, int(str(asked))) if str(asked).isdigit() and int(str(asked)) else most

    def _flag(self, task: Task, value: Value | None, host: HostState) -> bool:
        return value is not None and flag(value, host.variables(task, self._settings))

    def _title(self, task: Task, host: HostState) -> str:
        """Return a task's name with its expressions written out for the first host; as it stands where they cannot be."""
        if "{{" not in task.title:
            return task.title
        try:
            shown = str(compile_value(task.title, task.where).render(host.variables(task, self._settings)))
        except TrainyardError:
            return task.title
        return task.title if task.no_log else redact(shown, list(self._settings.secrets))

    # ---- handlers, and what is said of the course itself

    def _know(self, handlers: Iterable[Task]) -> None:
        """Let handlers be notified; of two with one name the last one counts."""
        self._handlers += [handler for handler in handlers if handler not in self._handlers]
        names = frozenset(name for handler in self._handlers for name in (handler.name, handler.title, *handler.listen))
        for host in self._batch:
            host.handlers = names

    def _flush(self, hosts: list[HostState]) -> Way:
        """Run the notified handlers, each once, in the order in which they stand."""
        alive, lost = hosts, []
        for index, handler in enumerate(list(self._handlers)):
            self._take_notices(alive)
            due = [host for host in alive if index in self._due[host.name] and not host.ended]
            if not due:
                continue
            for host in due:
                self._due[host.name].discard(index)
            if handler.action == "meta":
                through, failed = self._meta(handler, due, handler=True)
            else:
                through, failed = self._task(self._as_shown(handler, due), due, rescued=False, handler=True)
            lost += failed
            alive = [host for host in alive if host in through or host not in due]
        return alive, lost

    def _take_notices(self, hosts: Iterable[HostState]) -> None:
        for host in hosts:
            for name in host.notified:
                named = [index for index, handler in enumerate(self._handlers) if name in (handler.name, handler.title)][-1:]
                topics = {one.given_name or index: index for index, one in enumerate(self._handlers) if name in one.listen}
                self._due[host.name].update([*named, *topics.values()])
            host.notified.clear()

    def _meta(self, task: Task, hosts: list[HostState], *, handler: bool = False) -> Way:
        """Do what a meta task says: to each host for which its condition holds, or, by the first one's, to all."""
        action = str(cast(Value, task.args["action"]).render({}))
        try:
            meant = [host for host in hosts if all(each.holds(host.variables(task, self._settings)) for each in task.when)]
        except UserError as error:
            ended = TaskEnd("failed", {"changed": False, "failed": True, "msg": str(error)})
            self._settings.show(hosts[0].name, task, ended, None)
            return self._judged(task, hosts, [ended] * len(hosts), rescued=False)
        for host in hosts if action in _EACH else hosts[:1]:
            if task.where is not None:  # those between the parts of a play say nothing
                self._settings.reporter.task(task.title, handler=handler)
            if host not in meant:
                self._settings.show(host.name, task, TaskEnd("skipped", {"changed": False, "skipped": True}), None)
        if action == "flush_handlers":
            alive, lost = self._flush(self._with_forced(meant) if task.where is None else meant)
            return [host for host in hosts if host in alive or host not in meant], lost
        if action == "reset_connection":
            for host in meant:
                host.transport.reset()
        elif action == "end_host":
            for host in meant:
                host.ended = True
        elif action == "end_role":
            for host in meant:
                self._left[host.name] += [task.role] if task.role else []
        elif hosts[0] in meant:
            self._for_all(action)
        return hosts, []

    def _for_all(self, action: str) -> None:
        for host in self._batch:
            if action in ("end_play", "end_batch"):
                host.ended = True
            elif action == "clear_host_errors":
                self._standing.failures.pop(host.name, None)
            elif action == "clear_facts":
                host.system_facts.clear()
        self.play_ended = self.play_ended or action == "end_play"

    # ---- who drops out

    def _drop(self, lost: Iterable[DroppedHost]) -> None:
        for one in lost:
            self._standing.failures.setdefault(one.host.name, one.failure)

    def _if_few_failed(self, hosts: list[HostState]) -> list[HostState]:
        """Return the hosts, none when more have failed than the play bears."""
        if self._play.max_fail_percentage is None:
            return hosts
        most = float(str(self._play.max_fail_percentage.render(self._play_variables())).rstrip("%"))
        failures = self._standing.failures
        failed = [host for host in self._batch if host.name in failures and not failures[host.name].unreachable]
        if 100 * len(failed) / len(self._batch) <= most:
            return hosts
        self._standing.over = True
        for host in hosts:
            failures.setdefault(host.name, HostFailure(host.name, failures[failed[0].name].task, _FEWER))
        return []


def _role_of(node: Task | Include) -> Role | None:
    return (node.task if isinstance(node, Include) else node).role


def _reason(ended: TaskEnd) -> str:
    message = str(ended.result.get("msg") or "failed").splitlines()[0]
    for stream in ("stderr", "stdout"):
        text = str(ended.result.get(stream) or "").strip()
        if text and text not in message:
            return f"{message}: {text.splitlines()[-1]}"
    return message
