"""Programs for a shell: files of their own (so that shellcheck reads them), handed out as one piece of text.

A room keeps its programs in its folder ``shell/``. One that sources another (``. ./name.sh``) gets it in that place, for
what runs on a pod arrives there without files beside it; lines that are only a comment stay here.
"""

from __future__ import annotations

import functools
import re
from importlib import resources

_SOURCE = re.compile(r"\s*\. \./(\S+)")


@functools.cache
def load(package: str, name: str) -> str:
    """Return the program ``shell/NAME.sh`` of a package."""
    file = resources.files(package) / "shell" / f"{name}.sh"
    return "".join(_line(package, line) for line in file.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#"))


def _line(package: str, line: str) -> str:
    sourced = _SOURCE.fullmatch(line)
    return load(package, sourced[1].removesuffix(".sh")) if sourced else line + "\n"
