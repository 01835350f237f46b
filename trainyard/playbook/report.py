"""What a run of a playbook shows and what it leaves behind: lines as people know them from Ansible, and a recap."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from trainyard.errors import PodFailed, Unreachable
from trainyard.playbook.ending import Left
from trainyard.playbook.model import Task
from trainyard.secret import Secret, hide, redact

Status = Literal["ok", "changed", "skipped", "failed", "ignored", "unreachable"]
_WIDTH = 72
_LINES = 10
HIDDEN = "hidden (no_log)"
_LEFT: Mapping[Left, str] = {
    "nothing": "no command was running",
    "ended": "its command was ended (jobs run on)",
    "running": "its command could not be ended: IT RUNS ON",
    "unknown": "the host does not say: its command may run on",
}


@dataclass(slots=True)
class HostCounters:
    """The counters of one host; ``changed`` and ``ignored`` are counted in ``ok`` too."""

    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0
    rescued: int = 0
    ignored: int = 0

    def __str__(self) -> str:
        names = ("ok", "changed", "unreachable", "failed", "skipped", "rescued", "ignored")
        return "".join(f"{name}={getattr(self, name):<5}" for name in names).rstrip()


@dataclass(frozen=True, slots=True)
class HostFailure:
    """Why a host dropped out."""

    host: str
    task: str
    message: str
    unreachable: Unreachable | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a whole run."""

    tallies: Mapping[str, HostCounters]
    failures: tuple[HostFailure, ...] = ()
    facts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Per host what was registered and set."""
    waiting: tuple[str, ...] = ()
    """Hosts whose turn (serial) never came, since a failure ended the run."""
    unbegun: tuple[str, ...] = ()
    """Hosts of plays that never began, since a failure ended the run."""

    @property
    def exit_code(self) -> int:
        """0, 2 when a host failed, 5 when a host was unreachable."""
        if any(failure.unreachable for failure in self.failures):
            return 5
        return 2 if self.failures else 0

    def reason(self) -> str:
        """Return in one line what went wrong (empty when nothing did)."""
        return hide("; ".join(f"{failure.host}: {failure.task}: {failure.message}" for failure in self.failures))

    def raise_for_failure(self) -> None:
        """Raise the Unreachable that a host met, or PodFailed for a failed task; return when all went well."""
        for failure in self.failures:
            if failure.unreachable:
                raise failure.unreachable
        if self.failures:
            raise PodFailed(self.reason())


class Reporter(Protocol):
    """Is told what happens, from the threads in which it happens."""

    def play(self, name: str, *, nobody: bool = False) -> None: ...

    def task(self, name: str, *, handler: bool = False) -> None: ...

    def outcome(self, host: str, task: Task, status: Status, result: Mapping[str, object], label: str | None) -> None: ...

    def retrying(self, host: str, task: Task, left: int) -> None: ...

    def lost(self, host: str, task: Task, why: str, tries: int) -> None: ...

    def included(self, name: str, hosts: Sequence[str], label: str | None) -> None: ...

    def broken_off(self, ends: Mapping[str, Left]) -> None: ...

    def recap(self, report: Report) -> None: ...


class Silent:
    """Show nothing."""

    def play(self, name: str, *, nobody: bool = False) -> None: ...

    def task(self, name: str, *, handler: bool = False) -> None: ...

    def outcome(self, host: str, task: Task, status: Status, result: Mapping[str, object], label: str | None) -> None: ...

    def retrying(self, host: str, task: Task, left: int) -> None: ...

    def lost(self, host: str, task: Task, why: str, tries: int) -> None: ...

    def included(self, name: str, hosts: Sequence[str], label: str | None) -> None: ...

    def broken_off(self, ends: Mapping[str, Left]) -> None: ...

    def recap(self, report: Report) -> None: ...


_NO_LETTERS = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if chr(number) not in "\t\n"}
"""What would move the cursor or speak to the terminal, where it comes from a host or a file: written out."""


class TextReporter:
    """Write lines. ``verbose``: 1 shows the last lines of commands that went well, too, 2 whatever commands print."""

    def __init__(self, write: Callable[[str], object], *, verbose: int = 0) -> None:
        self._write, self._verbose = write, verbose
        self._most = _LINES if verbose < 2 else 0
        """So many last lines of a command are shown; 0: all."""
        self._lock = threading.Lock()

    def play(self, name: str, *, nobody: bool = False) -> None:
        """Head a play; ``nobody``: none of the hosts that take part is one of its."""
        self._lines(["", _headline(f"PLAY [{name}]"), *(["skipping: no hosts matched"] if nobody else [])])

    def task(self, name: str, *, handler: bool = False) -> None:
        """Head a task."""
        self._lines(["", _headline(f"{'RUNNING HANDLER' if handler else 'TASK'} [{name}]")])

    def outcome(self, host: str, task: Task, status: Status, result: Mapping[str, object], label: str | None) -> None:
        """Show how a task (or one item of its loop) ended on a host."""
        shown: Mapping[str, object] = {"msg": HIDDEN} if task.no_log else result
        item = "" if label is None else f" => (item={label})"
        lines = []
        if isinstance(shown.get("diff"), str):
            lines += str(shown["diff"]).splitlines()
        if status in ("failed", "ignored"):
            lines += [f"fatal: [{host}]: FAILED!{item} => {shown.get('msg', 'failed')}", *_details(shown, self._most)]
            lines += ["...ignoring"] if status == "ignored" else []
        elif status == "unreachable":
            lines.append(f"fatal: [{host}]: UNREACHABLE! => {result.get('msg', '')}")
        else:
            lines.append(f"{'skipping' if status == 'skipped' else status}: [{host}]{item}")
            if task.action == "debug" and status != "skipped":
                lines += _message(shown.get("msg"))
            elif self._verbose:
                lines += _details(shown, self._most)
        self._lines(lines)

    def retrying(self, host: str, task: Task, left: int) -> None:
        """Say that a task is tried again."""
        self._lines([f"FAILED - RETRYING: [{host}]: {task.name} ({left} retries left)."])

    def lost(self, host: str, task: Task, why: str, tries: int) -> None:
        """Say that a link was lost and that the task is done once more, which is harmless."""
        self._lines([f"LINK LOST - DOING IT AGAIN: [{host}]: {HIDDEN if task.no_log else why} (try {tries})."])

    def included(self, name: str, hosts: Sequence[str], label: str | None) -> None:
        """Say which hosts an include brings its tasks to."""
        if hosts:
            self._lines([f"included: {name} for {', '.join(hosts)}" + ("" if label is None else f" => (item={label})")])

    def broken_off(self, ends: Mapping[str, Left]) -> None:
        """Say what became of the commands that ran when the run was broken off."""
        self._lines(["", *(f"broken off: [{host}]: {_LEFT[left]}" for host, left in ends.items())])

    def recap(self, report: Report) -> None:
        """Show the counters of all hosts."""
        rows = [f"{host:<24} : {tally}" for host, tally in report.tallies.items()]
        self._lines(["", _headline("PLAY RECAP"), *rows, ""])

    def _lines(self, lines: list[str]) -> None:
        with self._lock:
            for line in lines:
                # Names of files may hold bytes that are no text.
                self._write(hide(line).translate(_NO_LETTERS).encode(errors="backslashreplace").decode())


def secrets_in(value: object) -> list[Secret]:
    """Return every secret anywhere in a value."""
    if isinstance(value, Secret):
        return [value]
    items: Iterable[object] = ()
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    return [secret for item in items for secret in secrets_in(item)]


def hidden(value: object, secrets: list[Secret]) -> object:
    """Return the value with every secret in any of its texts replaced by ``***``."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, Mapping):
        return {key: hidden(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hidden(item, secrets) for item in value]
    return value


def _headline(text: str) -> str:
    return f"{text} ".ljust(_WIDTH, "*")


def _details(result: Mapping[str, object], most: int) -> list[str]:
    lines: list[str] = []
    for name in ("stderr", "stdout"):
        text = result.get(name)
        if isinstance(text, str) and text:
            lines += [f"  {name}: {line}" for line in text.splitlines()[-most:]]
    return lines


def _message(message: object) -> list[str]:
    text = message if isinstance(message, str) else json.dumps(message, indent=2, ensure_ascii=False, default=str)
    return [f"  {line}" for line in text.splitlines()]
