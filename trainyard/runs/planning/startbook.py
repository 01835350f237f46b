"""The playbook that starts a training, judged before a pod exists: a repository may have its own in the place of Trainyard's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.shipped import find, layers, overlay

BOOK = "train.yml"


def refuse(root: Path, on_note: Callable[[str], None] = lambda _: None) -> None:
    """Read playbooks/train.yml as a run would, where the repository has a part of it.

    ``on_note`` is told where it takes the place of Trainyard's.
    Raises UserError, at the file that a person can edit, where it cannot start a training.
    """
    own, *shipped = layers(root, "playbooks")
    if not any((own / path.relative_to(below)).is_file() for below in shipped for path in below.rglob("*.yml")):
        return
    from trainyard import playbook  # brings the whole executor, which most runs need only once the pod boots
    from trainyard.playbook.model import tasks_of

    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        folder = Path(scratch).resolve() / "playbooks"
        overlay(root, "playbooks", folder)
        try:
            book = playbook.load(folder / BOOK)
        except UserError as error:
            error.where = error.where and _original(root, folder, error.where)
            raise
    if not any(task.action == "job" and "start" in task.args for play in book.plays for task in tasks_of(play.tasks)):
        raise UserError(
            "this playbook starts no training: none of its tasks is a 'job' with 'start'",
            where=Location(str(find(root, f"playbooks/{BOOK}")), 1),
            hint="A train.yml of yours takes the place of Trainyard's whole one: begin with a copy of that.",
        )
    if _differs(own / BOOK, [folder / BOOK for folder in shipped]):
        on_note(f"playbook   playbooks/{BOOK} of this repository starts the training, in the place of Trainyard's")


def _differs(own: Path, shipped: Sequence[Path]) -> bool:
    """Tell whether a file of the repository is another than Trainyard's: another clone's same one takes nothing's place."""
    return own.is_file() and any(not path.is_file() or own.read_bytes() != path.read_bytes() for path in shipped)


def _original(root: Path, folder: Path, where: Location) -> Location:
    path = Path(where.file)
    return replace(where, file=str(find(root, f"playbooks/{path.relative_to(folder)}"))) if path.is_relative_to(folder) else where
