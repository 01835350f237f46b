"""Playbooks written by a test and run on this machine, or on a real SSH server."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.remote.conftest import server, ssh  # noqa: F401 (fixtures)
from trainyard import playbook
from trainyard.playbook import Host, Report
from trainyard.remote.transport import LocalTransport


@dataclass
class FakeClock:
    """Remembers how long was slept, and does not sleep."""

    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclass
class Shown:
    """A finished run: the report and the lines that were shown."""

    report: Report
    lines: list[str]
    clock: FakeClock

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def facts(self, host: str = "pod") -> Mapping[str, object]:
        return self.report.facts[host]


Run = Callable[..., Shown]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Write tasks (or whole plays) to a file, run them, return what happened."""

    def run_text(
        text: str,
        *,
        hosts: Mapping[str, Host] | None = None,
        extra: Mapping[str, object] | None = None,
        verbose: bool = False,
        lines: list[str] | None = None,
        **options: object,
    ) -> Shown:
        body = textwrap.dedent(text).strip("\n")
        if "hosts:" not in body:
            body = "- hosts: all\n  tasks:\n" + textwrap.indent(body, "    ")
        path = tmp_path / "play.yml"
        path.write_text(body + "\n")
        lines = [] if lines is None else lines
        clock = FakeClock()
        report = playbook.run(
            playbook.load(path), hosts or {"pod": Host(LocalTransport())}, {"tmp": str(tmp_path), **(extra or {})},
            reporter=playbook.TextReporter(lines.append, verbose=verbose), **{"clock": clock, **options},  # type: ignore[arg-type]
        )  # fmt: skip
        return Shown(report, lines, clock)

    return run_text
