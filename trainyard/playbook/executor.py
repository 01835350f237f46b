"""Run plays: one task after the other, each on all hosts at once; a host that fails drops out of what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import TrainyardError, UserError
from trainyard.playbook.attempt import HostState, PlayOptions, RetryClock
from trainyard.playbook.checks import check_variables
from trainyard.playbook.course import Course
from trainyard.playbook.ending import Endable, StopClock
from trainyard.playbook.hosts import magic
from trainyard.playbook.hosts.patterns import matching
from trainyard.playbook.model import Play, Playbook
from trainyard.playbook.prompts import ask
from trainyard.playbook.report import Report, Reporter, Silent, secrets_in
from trainyard.playbook.selection import Tags, hosts_of, select
from trainyard.playbook.standing import Standing
from trainyard.playbook.values import Value, Variables, compile_value
from trainyard.playbook.varsfiles import files_of
from trainyard.remote.protocol import Transport
from trainyard.secret import Secret, redact

MOST_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Host:
    """A host of a run: how to reach it, and its variables."""

    transport: Transport
    vars: Mapping[str, object] = field(default_factory=dict)
    beside: Callable[[Path], Mapping[str, object]] | None = None
    """Its variables where those beside the playbook (in this folder) count, too."""
    ways: Callable[[Play], Transport] | None = None
    """How it is reached in a play, where that is not always the same."""
    origin: Path | None = None
    """The inventory that names it."""

    def variables(self, folder: Path) -> Mapping[str, object]:
        """Return its variables in plays of a playbook in a folder."""
        return self.vars if self.beside is None else self.beside(folder)


def run(
    playbook: Playbook, hosts: Mapping[str, Host], extra_vars: Mapping[str, object] | None = None, *,
    check: bool = False, diff: bool = False, tags: Iterable[str] = (), skip_tags: Iterable[str] = (),
    start_at: str | None = None, groups: Mapping[str, Sequence[str]] | None = None, limit: Sequence[str] = (),
    forks: int = MOST_AT_ONCE, become: bool = False, reporter: Reporter | None = None, clock: RetryClock | None = None,
) -> Report:  # fmt: skip
    """Run a playbook on hosts and return the report; a failed task is in the report, not an exception.

    Raises UserError before anything is done when a pattern, a variable or the task to start at is wrong. Ctrl-C and a
    pipe that nobody reads end what runs on the hosts, show the recap, and are raised.
    """
    extra = dict(extra_vars or {})
    answers = ask(playbook.plays, extra)
    secrets = secrets_in([extra, *(dict(host.vars) for host in hosts.values())])
    secrets += [Secret(answers[each.name]) for play in playbook.plays for each in play.prompts if each.private and answers.get(each.name)]
    ways = {name: Endable(host.transport) for name, host in hosts.items()}
    settings = PlayOptions(extra, check, diff, reporter or Silent(), clock or StopClock(), tuple(secrets), ways=ways, become=become)
    choice = Tags(frozenset(tags), frozenset(skip_tags))
    groups = {"all": list(hosts), **(groups or {})}
    chosen, patterns = planned(playbook, choice, start_at, groups, limit, {**answers, **extra})
    folders = {play.folder for play in chosen.plays}
    check_variables(playbook, [host.variables(folder) for host in hosts.values() for folder in folders], settings.extra)
    standing = Standing(settings, choice, forks, answers)
    hostvars = magic.HostVars(list(hosts), lambda name: standing.hosts[name].own(settings))
    for name in dict.fromkeys((*hosts, *(name for names in patterns for name in names))):
        # This machine may be named without being in any inventory.
        known = magic.of_host(name, groups, hosts[name].origin if name in hosts else None, hostvars)
        known |= magic.of_run(check=check, diff=diff, forks=forks, tags=choice.only, skip_tags=choice.skip)
        standing.hosts[name] = HostState(name, ways.get(name, settings.here), hosts[name].vars if name in hosts else {}, magic=known)
    with standing.left_in_words():
        for play, names in zip(chosen.plays, patterns, strict=True):
            for name, host in hosts.items():
                standing.hosts[name].vars = host.variables(play.folder)
                if host.ways is not None and name in names:
                    standing.reach(name, host.ways(play))
            _play(play, names, standing)
    report = standing.report()
    settings.reporter.recap(report)
    return report


def planned(
    playbook: Playbook, choice: Tags, start_at: str | None, groups: Mapping[str, Sequence[str]], limit: Sequence[str],
    extra: Mapping[str, object],
) -> tuple[Playbook, list[list[str]]]:  # fmt: skip
    """Return the tasks that a run is about, and the hosts of each play. Raises UserError where there is no such task or host."""
    chosen = select(playbook, choice, start_at)
    return chosen, _limited([hosts_of(play, groups, extra) for play in chosen.plays], groups, limit)


def _limited(patterns: list[list[str]], groups: Mapping[str, Sequence[str]], limit: Sequence[str]) -> list[list[str]]:
    """Return the hosts of each play, those alone that --limit names. Raises UserError when none of any play is left."""
    if not limit:
        return patterns
    named = set(matching(limit, {**groups, "all": list(dict.fromkeys([*groups["all"], *(name for names in patterns for name in names)]))}))
    kept = [[name for name in names if name in named] for names in patterns]
    if not any(kept):
        raise UserError(f"--limit {','.join(limit)} leaves no host of any play")
    return kept


def _play(play: Play, names: list[str], standing: Standing) -> None:
    """Run a play on those of its hosts that are still in the course, batch by batch."""
    settings = standing.settings
    standing.alive = [name for name in names if name not in standing.failures]
    if not names:
        settings.reporter.play(_title(play, settings), nobody=True)
    if standing.over:
        standing.unbegun += standing.alive
        return
    waiting = list(standing.alive)
    for batch in _batches(play, list(standing.alive), settings):
        settings.reporter.play(_title(play, settings))
        hosts, alive = [standing.host(name) for name in batch], list(batch)
        about = magic.of_play(play.name, play.folder, names, standing.alive) | {"ansible_play_batch": alive, "play_hosts": alive}
        for host in hosts:
            host.play = play
            host.magic |= about
            host.prompted = {each.name: standing.answers[each.name] for each in play.prompts if each.name in standing.answers}
            host.from_files = files_of(play, {**host.vars, **play.vars, **host.prompted, **settings.extra})
        course = Course(play, hosts, alive, standing)
        course.run()
        standing.over = standing.over or all(name in standing.failures for name in batch)
        waiting = waiting[len(batch) :]
        if standing.over or course.play_ended:
            standing.waiting += waiting if standing.over else ()
            return


def _title(play: Play, settings: PlayOptions) -> str:
    """Return a play's name with its expressions written out; as it stands where they cannot be."""
    try:
        return redact(str(compile_value(play.name, play.where).render({**play.vars, **settings.extra})), list(settings.secrets))
    except TrainyardError:
        return play.name


def _batches(play: Play, names: list[str], settings: PlayOptions) -> Iterator[list[str]]:
    """Yield the hosts of each turn of a play, as ``serial`` says; its last size holds for all that are left."""
    sizes, left = list(play.serial), list(names)
    while left:
        size = _size(sizes[0], len(names), {**play.vars, **settings.extra}) if sizes else 0
        sizes = sizes[1:] or sizes
        yield left[:size] if size > 0 else left
        left = left[size:] if size > 0 else []


def _size(value: Value, total: int, variables: Variables) -> int:
    said = str(value.render(variables)).strip()
    number, percent = said.removesuffix("%"), said.endswith("%")
    if not number.isdigit():
        raise UserError(f"'serial' is a number of hosts or a percentage, not '{said}'", where=value.where)
    return max(1, int(number) * total // 100) if percent else int(number)
