"""What a run is called: ``<user>/<label>`` and, for each try, an attempt number."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from trainyard.config import attempt_number
from trainyard.errors import UnknownRun, UserError
from trainyard.ledger.runid import RunId as RunId

_LABEL = re.compile(r"^[a-z0-9]+(?:-[a-z0-9]+)*$")
LONGEST_NAME = 100
"""Characters of a stack's name, so of a user or a label, too."""
_SHOWN = 200
LAST = "last"
"""In place of a run's name: the one that was begun last."""
LOST_RECORD = "Is its record lost? invoke reap --all-stacks --dry-run shows the pods, invoke adopt takes one over."


def check_label(label: str, user: str, environment: str) -> str:
    """Return the label; raises UserError when it cannot be part of a stack's name or a key."""
    if not _LABEL.match(label):
        raise UserError(f"--name {shown(label)}: use a-z, 0-9 and single '-' between them")
    if label == LAST:
        raise UserError(f"--name {LAST}: that is what every command takes for the run that was begun last", hint="Choose another name.")
    if len(RunId(user, label, 999).stack_name(environment)) > LONGEST_NAME:
        raise UserError(f"--name {shown(label)}: too long, the stack's name may have {LONGEST_NAME} characters")
    return label


def new_label(runs: Path, user: str, asked_label: str | None, now: datetime, environment: str) -> str:
    """Return the label of a new run: the wanted one, else the local time, ``-2`` when taken here."""
    if asked_label is not None:
        return check_label(asked_label, user, environment)
    base = now.strftime("%Y-%m-%d-%H%M%S")
    label, number = base, 1
    while (runs / user / label).exists():
        number += 1
        label = f"{base}-{number}"
    return label


def find(runs: Path, reference: str) -> RunId:
    """Return the attempt a person means by ``label``, ``user/label`` (the newest one) or ``user/label/attempt``.

    Raises UserError when none or several fit.
    """
    user, label, attempt = _words(reference)
    here = all_runs(runs)
    matches = [run for run in here if user in ("", run.user) and label == run.label and attempt in (None, run.attempt)]
    users = sorted({run.user for run in matches})
    if len(users) > 1:
        raise UserError(f"'{reference}' is a run of {', '.join(users)}: say {users[0]}/{label}")
    if not matches:
        known = sorted({str(run) for run in here})
        raise UnknownRun(
            f"there is no run {shown(reference)} here",
            reference=reference,
            hint=f"Runs: {', '.join(known[-8:]) or 'none yet'}.\n{LOST_RECORD}",
        )
    return max(matches)


def is_there(runs: Path, reference: str) -> bool:
    """Tell whether exactly one run is meant by this name, and has a record here."""
    try:
        find(runs, reference)
    except UserError:
        return False
    return True


def shown(reference: str) -> str:
    """Return what a person has typed in quotes, cut where it is longer than any name can be, without what a screen would obey."""
    if not reference.isprintable():
        reference = reference.encode("unicode_escape").decode()
    return f"'{reference}'" if len(reference) <= _SHOWN else f"'{reference[:_SHOWN]}...' ({len(reference):,} characters)"


def all_runs(runs: Path) -> list[RunId]:
    """Return every attempt that has a folder here; their names are compared, never used as patterns."""
    folders = ((path, attempt_number(path.name)) for path in runs.glob("*/*/*"))
    return [RunId(path.parent.parent.name, path.parent.name, number) for path, number in folders if number and path.is_dir()]


def _words(reference: str) -> tuple[str, str, int | None]:
    parts = reference.strip("/").split("/")
    if len(parts) == 3 and (number := attempt_number(parts[2])):
        return parts[0], parts[1], number
    return "/".join(parts[:-1]), parts[-1], None
