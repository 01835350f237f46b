"""The command that goes on where hosts have dropped out: it works as it is printed."""

from __future__ import annotations

import argparse
import re
import shlex

from trainyard.playbook.model import Playbook, tasks_of
from trainyard.playbook.report import Report
from trainyard.playbook.selection import startable
from trainyard.secret import names_secret

_KEPT = (
    "inventory", "host", "key", "ssh_config", "extra_vars", "vault_password_file", "forks", "tags", "skip_tags", "check", "diff", "become",
    "user",
)  # fmt: skip
"""Options of the command line that hold for the next one, too."""
_NAMES = re.compile(r"""[A-Za-z_]\w*(?=['"]?\s*[=:])""")


def again(playbook: Playbook, report: Report, typed: str, options: argparse.Namespace, parser: argparse.ArgumentParser) -> str | None:
    """Return the lines that say how to go on; None when no host has dropped out. ``typed``: the command with its playbooks."""
    out = [failure.host for failure in report.failures]
    if not out:
        return None
    names = startable(playbook)
    # A name that stands twice would start at the first one; what a file brought at run time cannot be started at.
    firsts = [name for name in names if names.count(name) == 1 and any(failure.task == name for failure in report.failures)]
    if report.waiting:
        firsts = []  # those have to begin at the first task
    words = [f"--start-at-task={firsts[0]}"] if firsts else []
    out = list(dict.fromkeys([*out, *report.waiting, *report.unbegun]))
    words += [f"--limit={','.join(out)}"] if set(report.tallies) - set(out) else [f"--limit={pattern}" for pattern in options.limit]
    kept = [text for text in options.extra_vars if not _secret(text, playbook)]
    for name in _KEPT:
        value = kept if name == "extra_vars" else getattr(options, name)
        option = f"--{name.replace('_', '-')}"
        several = value if isinstance(value, list) else [] if value in (None, False, parser.get_default(name)) else [value]
        words += [option if item is True else f"{option}={item}" for item in several]
    what = "to go on at that task" if firsts else "to run it once more"
    what += ", with the --extra-vars of this call that are not shown" if len(kept) < len(options.extra_vars) else ""
    return f"{what}: {typed} {' '.join(map(shlex.quote, words))}".rstrip()


def _secret(text: str, playbook: Playbook) -> bool:
    """Tell whether an --extra-vars may hold what must not be shown: by the names in it, or since a task of the playbook has no_log."""
    if text.startswith("@"):
        return False
    hushed = any(task.no_log for play in playbook.plays for task in tasks_of(play.tasks))
    return hushed or any(names_secret(word) for word in _NAMES.findall(text))
