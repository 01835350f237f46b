"""What the label of a run of gitops says: ``<file>-<commit>``, with a schedule ``<file>-<commit>-<due time>``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainyard.runs.gitops.committed import SHORT
from trainyard.runs.gitops.schedule import STAMP

_LABEL = re.compile(rf"(?P<name>.+)-[0-9a-f]{{{SHORT}}}(?:-(?P<due>{STAMP}))?")


@dataclass(frozen=True, slots=True)
class GitopsLabel:
    """What a run's label says: the name of its file and, of one with a schedule, its due time."""

    name: str
    due: str | None


def label_in(label: str) -> GitopsLabel | None:
    """Return what a label of gitops says; None for one that gitops did not make."""
    match = _LABEL.fullmatch(label)
    return GitopsLabel(match["name"], match["due"]) if match else None
