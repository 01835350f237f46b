"""Round trips that tasks share: what the next tasks of a host ask is found out before it is their turn, and sent as one batch.

A task goes ahead when nothing that it says depends on what a task before it will answer, and when only its exit code decides
whether what follows it is done. Each still has its turn: then its answer is taken from the batch, judged and shown as if it had been
sent alone. A batch ends at the first command that fails, so nothing runs that would not have run.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from trainyard.errors import TrainyardError, Unreachable
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.expressions import AHEAD
from trainyard.playbook.model import Node, Task
from trainyard.playbook.natives import NotDue
from trainyard.playbook.perform import Asking, Scene, asked, perform
from trainyard.playbook.stepping import step_of
from trainyard.playbook.steps import CommandAction, Outcome, Script, Step
from trainyard.playbook.values import Condition, Literal, Variables
from trainyard.remote.batch import Batch
from trainyard.remote.protocol import CommandResult, Transport

_SAID = frozenset({
    "name", "action", "args", "where", "folder", "search", "role", "when", "vars", "include_params", "environment", "tags", "register",
    "loop", "changed_when", "failed_when", "ignore_errors", "ignore_unreachable", "notify", "listen", "no_log", "any_errors_fatal",
    "become", "become_user", "become_method", "check_mode", "diff",
})  # fmt: skip
"""What may be said of a task that goes ahead; whatever else is said of one makes it go alone."""
_ALONE = tuple(one.name for one in fields(Task) if one.name not in _SAID)
_LEAVES_BEHIND = re.compile(r"(?<![&>|<])&(?![&>0-9-])|\b(nohup|setsid|disown|daemon|reboot|shutdown)\b")
"""What a command says that may write on when it has ended, or end more than itself: nothing is sent together with what comes after."""


class SentTogether(Unreachable):
    """The link was lost, and of several commands that were sent together nobody knows which have run."""


class _NotYet(Literal):
    """A variable that will be another when the task has its turn."""

    def render(self, variables: Variables) -> object:
        """Say that it is not known yet."""
        raise NotDue("not known yet")


_UNKNOWN = _NotYet(None)


@dataclass(slots=True)
class _Sent:
    """What a task, or one item of its loop, has asked, and its answer when that has come."""

    task: Task
    item: object
    question: Asking
    command: bool
    way: Transport
    answer: CommandResult | None = None


@dataclass(frozen=True, slots=True)
class HostOutlook:
    """What is known of a host while tasks are looked at that are not yet due."""

    variables: Callable[[Task], Variables]
    scene: Callable[[Task, Variables], Scene]
    unknown: tuple[str, ...] = ()
    """Variables that what becomes of other hosts may change."""
    only_reads: bool = False
    """Whether what changes something waits for its turn."""


class SentAhead:
    """The tasks of a host that have been sent before it was their turn."""

    def __init__(self) -> None:
        self._sent: deque[_Sent] = deque()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._doubtful: list[_Sent] = []
        """What was sent with what was lost, may have been done, and will be done in its turn."""
        self._vain = False
        """Whether the host can do nothing with a batch."""

    def look(self, nodes: Sequence[Node], outlook: HostOutlook) -> None:
        """Send what goes together of these nodes, of which the first is due; nothing when that has been sent already."""
        if self._vain or (self._sent and any(node is self._sent[0].task for node in nodes)):
            return
        self._settle()
        once = [one.task for one in self._doubtful if not ACTIONS[one.task.action].schema.again]
        known = itertools.takewhile(lambda node: not any(node is task for task in once), nodes)
        batch = Batch()
        sent = list(_plan(known, outlook, batch))
        if len(sent) > 1:
            self._sent.extend(sent)
            self._thread = threading.Thread(target=self._run, args=(batch, sent[0].way, sent), daemon=True)
            self._thread.start()

    def perform(self, task: Task, item: object, step: Step, scene: Scene) -> Outcome:
        """Carry out a step, by the answer that was sent for if there is one; see perform()."""
        question = asked(step, scene)
        if isinstance(question, dict):
            return question
        sent = self._sent[0] if self._sent else None
        answer = self._answer(sent) if sent is not None and sent.task is task and sent.item == item else None
        if sent is None or answer is None:
            self._settle()
            return perform(step, scene)
        self._sent.popleft()
        if not sent.command and (not isinstance(question, Asking) or question.request.stdin != sent.question.request.stdin):
            return perform(step, scene)  # a file here has become another one since
        return sent.question.read(answer)

    def doubted(self, task: Task, item: object) -> bool:
        """Tell whether a task may have been done before its turn without an answer; says so once."""
        rest = [one for one in self._doubtful if one.task is not task or one.item != item]
        doubted, self._doubtful = len(rest) < len(self._doubtful), rest
        return doubted

    def _run(self, batch: Batch, t: Transport, sent: Sequence[_Sent]) -> None:
        waiting = iter(sent)

        def take(answer: CommandResult) -> None:
            with self._changed:
                next(waiting).answer = answer
                self._changed.notify_all()

        try:
            batch.run(t, take)
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._vain = sent[0].answer is None and self._error is None
                self._thread = None
                self._changed.notify_all()

    def _answer(self, sent: _Sent) -> CommandResult | None:
        """Wait for an answer; None when the batch has ended before it. Raises what kept the batch from its end."""
        with self._changed:
            while sent.answer is None and self._thread is not None:
                self._changed.wait()
            if sent.answer is not None or self._error is None:
                return sent.answer
            error, later = self._error, [one for one in self._sent if one is not sent]
            self._error = None
            self._sent.clear()
        if isinstance(error, Unreachable):
            self._doubtful = later
            once = [one for one in later if not ACTIONS[one.task.action].schema.again]
            if once:
                raise SentTogether(f"{error.message}; what follows was sent with it and may have run, up to '{once[-1].task.name}'")
        raise error

    def _settle(self) -> None:
        """Wait until nothing is on its way, and forget what was."""
        with self._changed:
            while self._thread is not None:
                self._changed.wait()
        self._sent.clear()
        self._error = None


def _plan(nodes: Iterable[Node], outlook: HostOutlook, batch: Batch) -> Iterator[_Sent]:
    """Yield what goes into a batch, up to the first node that has to wait for its turn."""
    unknown: dict[str, object] = dict.fromkeys(outlook.unknown, _UNKNOWN)
    way: Transport | None = None
    for node in nodes:
        if not isinstance(node, Task) or node.action not in ACTIONS or any(getattr(node, name) not in (None, ()) for name in _ALONE):
            return
        if outlook.only_reads and ACTIONS[node.action].schema.again != "reads":
            return
        if outlook.unknown and node.any_errors_fatal is not None:
            return
        variables = {**outlook.variables(node), **unknown, AHEAD: True}
        try:
            for item, inside in _items(node, variables):
                if not all(condition.holds(inside) for condition in node.when):
                    continue
                scene = outlook.scene(node, inside)
                step = step_of(node, inside, scene.transport, scene.environment)
                question = asked(step, scene)
                if isinstance(question, dict) and not question.get("failed"):
                    facts = question.get("facts", question.get("included"))
                    unknown |= dict.fromkeys(facts if isinstance(facts, dict) else (), _UNKNOWN)
                    continue
                way = way or scene.transport
                if not isinstance(question, Asking) or scene.transport != way or not batch.add(question.request):
                    return
                yield _Sent(node, item, question, isinstance(step, CommandAction), way)
                if _last(node, step, inside):
                    return
        except TrainyardError:
            return  # it will be said when the task has its turn
        if node.register:
            unknown[node.register] = _UNKNOWN
        if unknown:
            unknown |= {"vars": _UNKNOWN, "hostvars": _UNKNOWN}


def _items(task: Task, variables: Mapping[str, object]) -> Iterator[tuple[object, Mapping[str, object]]]:
    """Yield the items of a task's loop with the variables of each; a task without one is its only item."""
    loop = task.loop
    if loop is None:
        yield None, variables
        return
    items = loop.items.render(variables)
    if loop.lookup or loop.index_var or loop.pause or loop.extended or not isinstance(items, list):
        raise NotDue("such a loop")
    for item in items:
        inside = {**variables, loop.var: item}
        if loop.label is not None:
            loop.label.render(inside)
        yield item, inside


def _last(task: Task, step: Step, variables: Mapping[str, object]) -> bool:
    """Tell whether what comes after a task must wait for more than that it ended with 0."""
    if isinstance(step, Script) and step.decides:
        return True
    if isinstance(step, CommandAction) and _LEAVES_BEHIND.search(step.command):
        return True
    own = {**variables, "result": _UNKNOWN, **({task.register: _UNKNOWN} if task.register else {})}
    return _holds(task.changed_when, own) is None or _holds(task.failed_when, own) is not False


def _holds(condition: Condition | None, variables: Variables) -> bool | None:
    """Return whether a condition holds (one that is not there does not), None when that is not known yet."""
    try:
        return condition is not None and condition.holds(variables)
    except TrainyardError:
        return None
