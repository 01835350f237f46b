"""How a run stands: its hosts, their counters, who has dropped out and why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from trainyard.playbook.attempt import HostState, PlayOptions, TaskEnd
from trainyard.playbook.ending import Endable, StopClock, end_all
from trainyard.playbook.report import HostCounters, HostFailure, Report
from trainyard.playbook.selection import Tags
from trainyard.remote.protocol import Transport


@dataclass(slots=True)
class Standing:
    """What plays leave for the plays after them."""

    settings: PlayOptions
    tags: Tags
    forks: int
    answers: Mapping[str, str]
    """To what a person was asked (vars_prompt)."""
    hosts: dict[str, HostState] = field(default_factory=dict)
    alive: list[str] = field(default_factory=list)
    """Those of the play that have not dropped out."""
    tallies: dict[str, HostCounters] = field(default_factory=dict)
    failures: dict[str, HostFailure] = field(default_factory=dict)
    over: bool = False
    """Whether no further task of any play is done."""
    waiting: list[str] = field(default_factory=list)
    """Hosts whose turn (serial) has not come, since it was over before."""
    unbegun: list[str] = field(default_factory=list)
    """Hosts of whole plays that have not begun, since it was over before."""

    def host(self, name: str) -> HostState:
        """Return a host that takes part."""
        self.tallies.setdefault(name, HostCounters())
        return self.hosts[name]

    def reach(self, name: str, transport: Transport) -> None:
        """Let a host be reached by another transport from now on, where that is not the one that it has."""
        if self.hosts[name].transport.inner is not transport:
            self.hosts[name].transport = self.settings.ways[name] = Endable(transport)

    def unreachable(self) -> set[str]:
        """Return the names of the hosts that do not answer."""
        return {name for name, failure in self.failures.items() if failure.unreachable}

    def count(self, name: str, ended: TaskEnd, rescued: bool) -> None:
        """Count how a task ended; ``rescued``: whether a block's rescue runs for a host that failed."""
        tally = self.tallies[name]
        match ended.status:
            case "unreachable" if not ended.ignored:
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
                tally.ignored += ended.status == "ignored" or ended.ignored

    def report(self) -> Report:
        """Return what came of the run."""
        facts = {name: {**host.system_facts, **host.facts} for name, host in self.hosts.items() if name in self.tallies}
        said = {name: tally for name, tally in self.tallies.items() if tally != HostCounters()}
        return Report(said, tuple(self.failures.values()), facts, tuple(self.waiting), tuple(self.unbegun))

    @contextlib.contextmanager
    def left_in_words(self) -> Iterator[None]:
        """Break the run off when somebody wants that: end what runs, say what is left of it, show the recap."""
        try:
            yield
        except (KeyboardInterrupt, BrokenPipeError):
            self._break_off()
            raise

    def _break_off(self) -> None:
        if isinstance(self.settings.clock, StopClock):
            self.settings.clock.stop()
        here = self.settings.here
        ways: Mapping[str, Endable] = {
            **{name: self.hosts[name].transport for name in self.tallies if name not in self.failures},
            **({"this machine": here} if all(self.hosts[name].transport is not here for name in self.tallies) else {}),
        }
        ends = dict(zip(ways, end_all(list(ways.values())), strict=True))
        for name, left in ends.items():
            if left in ("running", "unknown"):  # whoever waits for its answer waits no longer
                ways[name].close()
        if ends.get("this machine") == "nothing":
            del ends["this machine"]
        with contextlib.suppress(BrokenPipeError):
            self.settings.reporter.broken_off(ends)
            self.settings.reporter.recap(self.report())
