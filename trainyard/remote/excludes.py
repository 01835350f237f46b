"""What a copy of a folder leaves out: names and patterns, as rsync's --exclude reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


def excluding(patterns: Sequence[str], top: str = "") -> Callable[[str], bool]:
    """Return what tells whether a path below a folder is left out; ``top`` is the folder's own name, where it is copied too.

    A pattern without a slash is any name; with one at its beginning it stands at the top. What lies below something that is
    left out is, too. A slash at the end, which rsync takes for folders only, counts for files as well.
    """
    if not patterns:
        return lambda path: False
    whole = re.compile("|".join(_expression(pattern.rstrip("/")) for pattern in patterns))

    def left_out(path: str) -> bool:
        parts = [*([top] if top else []), *path.split("/")]
        return any(whole.fullmatch("/" + "/".join(parts[:count])) for count in range(1, len(parts) + 1))

    return left_out


def _expression(pattern: str) -> str:
    """Return the pattern as an expression for a path that begins with a slash."""
    text, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**", at):
            text, at = text + ".*", at + 2
            continue
        end = pattern.find("]", at + 2) if pattern[at] == "[" else -1
        if end > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            text, at = text + "[" + ("^" + inside[1:] if inside[0] in "!^" else inside) + "]", end + 1
            continue
        text, at = text + {"*": "[^/]*", "?": "[^/]"}.get(pattern[at], re.escape(pattern[at])), at + 1
    return f"(?s:{text})" if pattern.startswith("/") else f"(?s:(?:.*/){text})"
