"""The command that goes on where hosts have dropped out: it works as it is printed."""

from __future__ import annotations

import argparse
import shlex

from trainyard.playbook.model import Playbook
from trainyard.playbook.report import Report
from trainyard.playbook.selection import startable

_KEPT = ("inventory", "host", "key", "ssh_config", "extra_vars", "forks", "tags", "skip_tags", "check", "diff", "become")
"""Options of the command line that hold for the next one, too."""


def again(playbook: Playbook, report: Report, typed: str, options: argparse.Namespace, parser: argparse.ArgumentParser) -> str | None:
    """Return the lines that say how to go on; None when no host has dropped out. ``typed``: the command with its playbooks."""
    out = [failure.host for failure in report.failures]
    if not out:
        return None
    names = startable(playbook)
    # A name that stands twice would start at the first one; what a file brought at run time cannot be started at.
    firsts = [name for name in names if names.count(name) == 1 and any(failure.task == name for failure in report.failures)]
    words = [f"--start-at-task={firsts[0]}"] if firsts else []
    words += [f"--limit={','.join(out)}"] if len(out) < len(report.tallies) else [f"--limit={pattern}" for pattern in options.limit]
    for name in _KEPT:
        value = getattr(options, name)
        option = f"--{name.replace('_', '-')}"
        several = value if isinstance(value, list) else [] if value in (None, False, parser.get_default(name)) else [value]
        words += [option if item is True else f"{option}={item}" for item in several]
    what = "to go on at that task" if firsts else "to run it once more"
    return f"{what}: {typed} {' '.join(map(shlex.quote, words))}".rstrip()
