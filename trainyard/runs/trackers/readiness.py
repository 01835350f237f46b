"""What keeps trackers from being told, as far as that can be seen before a run: said while somebody still looks."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainyard.runs.trackers.tracker import KINDS, missing
from trainyard.settings import reader


def lacks(root: Path, env: Mapping[str, str], stack: str) -> Iterator[str]:
    """Yield what is missing for the trackers that a stack names; raises UserError for a setting that is wrong."""
    for name in reader.partly(root, stack, "trackers").trackers:
        kind = KINDS[name]
        if importlib.util.find_spec(kind.package) is None:
            yield f"{name}: {missing(name)}"
        elif kind.needed and not any(env.get(variable) for variable in kind.needed):
            yield f"{name}: {' or '.join(kind.needed)} is not set"
