"""Run plays: one task after the other, each on all hosts at once; a host that fails drops out of what follows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from trainyard.errors import Unreachable, UserError
from trainyard.playbook.attempt import HostState, PlayOptions, RetryClock, TaskEnd, look_ahead, run_task
from trainyard.playbook.checks import check_variables
from trainyard.playbook.ending import Endable, StopClock, end_all, side_by_side
from trainyard.playbook.hosts import magic
from trainyard.playbook.hosts.patterns import matching
from trainyard.playbook.model import Block, Node, Play, Playbook, Task
from trainyard.playbook.report import HIDDEN, HostCounters, HostFailure, Report, Reporter, Silent, secrets_in
from trainyard.playbook.selection import Tags, hosts_of, select
from trainyard.playbook.varsfiles import files_of
from trainyard.remote.protocol import Transport
from trainyard.remote.transport import LocalTransport
from trainyard.secret import redact

MOST_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Host:
    """A host of a run: how to reach it, and its variables."""

    transport: Transport
    vars: Mapping[str, object] = field(default_factory=dict)
    beside: Callable[[Path], Mapping[str, object]] | None = None
    """Its variables where those beside the playbook (in this folder) count, too."""
    origin: Path | None = None
    """The inventory that names it."""

    def variables(self, folder: Path) -> Mapping[str, object]:
        """Return its variables in plays of a playbook in a folder."""
        return self.vars if self.beside is None else self.beside(folder)


def run(
    playbook: Playbook, hosts: Mapping[str, Host], extra_vars: Mapping[str, object] | None = None, *,
    check: bool = False, diff: bool = False, tags: Iterable[str] = (), skip_tags: Iterable[str] = (),
    start_at: str | None = None, groups: Mapping[str, Sequence[str]] | None = None, limit: Sequence[str] = (),
    forks: int = MOST_AT_ONCE, reporter: Reporter | None = None, clock: RetryClock | None = None,
) -> Report:  # fmt: skip
    """Run a playbook on hosts and return the report; a failed task is in the report, not an exception.

    Raises UserError before anything is done when a pattern, a variable or the task to start at is wrong. Ctrl-C and a
    pipe that nobody reads end what runs on the hosts, show the recap, and are raised.
    """
    extra = dict(extra_vars or {})
    secrets = secrets_in([extra, *(dict(host.vars) for host in hosts.values())])
    settings = PlayOptions(extra, check, diff, reporter or Silent(), clock or StopClock(), tuple(secrets))
    chosen = select(playbook, Tags(frozenset(tags), frozenset(skip_tags)), start_at)
    groups = {"all": list(hosts), **(groups or {})}
    patterns = _limited([hosts_of(play, groups, extra) for play in chosen.plays], groups, limit)
    folders = {play.folder for play in chosen.plays}
    check_variables(playbook, [host.variables(folder) for host in hosts.values() for folder in folders], settings.extra)
    course = _Course(settings, hosts, groups, forks)
    with course.left_in_words():
        for play, names in zip(chosen.plays, patterns, strict=True):
            course.play(play, names)
    report = course.report()
    settings.reporter.recap(report)
    return report


def _limited(patterns: list[list[str]], groups: Mapping[str, Sequence[str]], limit: Sequence[str]) -> list[list[str]]:
    """Return the hosts of each play, those alone that --limit names. Raises UserError when none of any play is left."""
    if not limit:
        return patterns
    named = set(matching(limit, {**groups, "all": list(dict.fromkeys([*groups["all"], *(name for names in patterns for name in names)]))}))
    kept = [[name for name in names if name in named] for names in patterns]
    if not any(kept):
        raise UserError(f"--limit {','.join(limit)} leaves no host of any play")
    return kept


class _Course:
    """The state of a run: hosts, counters, who dropped out and why."""

    def __init__(self, settings: PlayOptions, hosts: Mapping[str, Host], groups: Mapping[str, Sequence[str]], forks: int) -> None:
        self._settings, self._reached, self._groups, self._forks = settings, hosts, groups, forks
        self._hostvars = magic.HostVars(list(hosts), lambda name: self._hosts[name].own(settings))
        self._hosts = {name: self._state(name, host) for name, host in hosts.items()}
        self._alive: list[str] = []
        self._tallies: dict[str, HostCounters] = {}
        self._failures: dict[str, HostFailure] = {}

    def play(self, play: Play, names: list[str]) -> None:
        """Run a play on those of its hosts that are still in the course."""
        hosts = [self._host(name) for name in names if name not in self._failures]
        if not hosts:
            return
        self._settings.reporter.play(play.name)
        self._alive = [host.name for host in hosts]
        about = magic.of_play(play.name, play.folder, names, self._alive)
        for host in hosts:
            host.play = play
            host.magic |= about
        for host_name, one in self._reached.items():
            self._hosts[host_name].vars = one.variables(play.folder)
        for host in hosts:
            host.from_files = files_of(play, {**play.vars, **host.vars, **self._settings.extra})
        alive, failed = self._nodes(play.tasks, hosts, rescued=False)
        self._drop(failed)
        for handler in play.handlers:
            notified = [host for host in alive if handler.name in host.notified]
            if notified:
                _, failed = self._task(handler, notified, rescued=False, handler=True)
                self._drop(failed)
                alive = [host for host in alive if host.name not in self._failures]
        for host in hosts:
            host.notified.clear()

    @contextlib.contextmanager
    def left_in_words(self) -> Iterator[None]:
        """Break the run off when somebody wants that: end what runs, say what is left of it, show the recap."""
        try:
            yield
        except (KeyboardInterrupt, BrokenPipeError):
            self._break_off()
            raise

    def report(self) -> Report:
        """Return what came of it."""
        facts = {name: dict(host.facts) for name, host in self._hosts.items() if name in self._tallies}
        return Report(self._tallies, tuple(self._failures.values()), facts)

    def _host(self, name: str) -> HostState:
        if name not in self._hosts:
            self._hosts[name] = self._state(name, Host(LocalTransport()))
        self._tallies.setdefault(name, HostCounters())
        return self._hosts[name]

    def _state(self, name: str, host: Host) -> HostState:
        known = magic.of_host(name, self._groups, host.origin, self._hostvars)
        known |= magic.of_run(check=self._settings.check, diff=self._settings.diff)
        return HostState(name, Endable(host.transport), host.vars, magic=known)

    def _nodes(self, nodes: tuple[Node, ...], hosts: list[HostState], *, rescued: bool) -> tuple[list[HostState], list[_DroppedHost]]:
        """Run nodes one after the other; return the hosts that got through and those that failed on the way."""
        lost: list[_DroppedHost] = []
        for number, node in enumerate(nodes):
            if not hosts:
                break
            if isinstance(node, Task):
                if len(hosts) == 1:
                    look_ahead(nodes[number:], hosts[0], self._settings)
                hosts, failed = self._task(node, hosts, rescued=rescued)
            elif isinstance(node, Block):
                hosts, failed = self._block(node.block, node.rescue, node.always, hosts, rescued=rescued)
            lost += failed
        return hosts, lost

    def _block(
        self, block: tuple[Node, ...], rescue: tuple[Node, ...], always: tuple[Node, ...], hosts: list[HostState], *, rescued: bool
    ) -> tuple[list[HostState], list[_DroppedHost]]:
        order = [host.name for host in hosts]
        alive, lost = self._nodes(block, hosts, rescued=rescued or bool(rescue))
        if rescue and lost:
            for one in lost:
                one.host.facts |= {"failed_task": {"name": one.failure.task, "action": one.action}, "failed_result": one.shown}
            saved, lost = self._nodes(rescue, [one.host for one in lost], rescued=rescued)
            alive += saved
        if always:
            why = {one.host.name: one for one in lost}
            through, failed = self._nodes(always, alive + [one.host for one in lost], rescued=rescued)
            lost = [*why.values(), *(one for one in failed if one.host.name not in why)]
            alive = [host for host in through if host.name not in why]
        return sorted(alive, key=lambda host: order.index(host.name)), lost

    def _task(
        self, task: Task, hosts: list[HostState], *, rescued: bool, handler: bool = False
    ) -> tuple[list[HostState], list[_DroppedHost]]:
        self._settings.reporter.task(task.name, handler=handler)
        alive: list[HostState] = []
        lost: list[_DroppedHost] = []
        for host, ended in zip(hosts, self._everywhere(task, hosts), strict=True):
            self._count(host.name, ended, rescued)
            if ended.status == "unreachable":
                error = cast(Unreachable, ended.result.pop("error"))
                self._failures[host.name] = HostFailure(host.name, task.name, error.message, error)
            elif ended.status == "failed":
                message = f"the output is {HIDDEN}" if task.no_log else redact(_reason(ended), list(self._settings.secrets))
                shown = {"changed": bool(ended.result.get("changed")), "failed": True, "msg": HIDDEN} if task.no_log else ended.result
                lost.append(_DroppedHost(host, HostFailure(host.name, task.name, message), task.action, shown))
            else:
                alive.append(host)
        out = {*self._failures, *(one.host.name for one in lost if not rescued)}
        self._alive[:] = [name for name in self._alive if name not in out]
        return alive, lost

    def _everywhere(self, task: Task, hosts: list[HostState]) -> list[TaskEnd]:
        return side_by_side(lambda host: run_task(task, host, self._settings), hosts, self._forks)

    def _break_off(self) -> None:
        if isinstance(self._settings.clock, StopClock):
            self._settings.clock.stop()
        names = [name for name in self._tallies if name not in self._failures]
        ways = {name: self._hosts[name].transport for name in names} | {"this machine": self._settings.here}
        ends = dict(zip(ways, end_all(list(ways.values())), strict=True))
        for name, left in ends.items():
            if left in ("running", "unknown"):  # whoever waits for its answer waits no longer
                ways[name].close()
        if ends["this machine"] == "nothing":
            del ends["this machine"]
        with contextlib.suppress(BrokenPipeError):
            self._settings.reporter.broken_off(ends)
            self._settings.reporter.recap(self.report())

    def _count(self, name: str, ended: TaskEnd, rescued: bool) -> None:
        tally = self._tallies[name]
        match ended.status:
            case "unreachable":
                tally.unreachable += 1
            case "skipped":
                tally.skipped += 1
            case "failed" if rescued:
                tally.rescued += 1
            case "failed":
                tally.failed += 1
            case _:
                tally.ok += 1
                tally.changed += ended.status == "changed" or (ended.status == "ignored" and bool(ended.result.get("changed")))
                tally.ignored += ended.status == "ignored"

    def _drop(self, lost: list[_DroppedHost]) -> None:
        for one in lost:
            self._failures.setdefault(one.host.name, one.failure)


@dataclass(frozen=True, slots=True)
class _DroppedHost:
    """A host that failed at a task and may still be rescued."""

    host: HostState
    failure: HostFailure
    action: str
    shown: Mapping[str, object]
    """Its result, as far as it may be shown."""


def _reason(ended: TaskEnd) -> str:
    message = str(ended.result.get("msg") or "failed").splitlines()[0]
    for stream in ("stderr", "stdout"):
        text = str(ended.result.get(stream) or "").strip()
        if text and text not in message:
            return f"{message}: {text.splitlines()[-1]}"
    return message
