"""Property paths (``a.b[0]["c d"].*``) of ignore_changes and replace_on_changes."""

from __future__ import annotations

import re
from typing import Any

from trainyard.engine.kinds import Properties, Sealed

Step = str | int
_PART = re.compile(r"""\.?([^.\[\]"']+)|\[(\d+|\*)\]|\["((?:[^"\\]|\\.)*)"\]""")
_MISSING = object()


def parse(text: str) -> list[Step]:
    """Return the steps of a path; one that cannot be read is taken for a key."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            return [text]
        key, index, quoted = match.groups()
        if index is not None:
            steps.append("*" if index == "*" else int(index))
        else:
            steps.append(key if key is not None else quoted.replace('\\"', '"'))
        at = match.end()
    return steps


def contains(path: list[Step], other: list[Step]) -> bool:
    """Say whether ``other`` lies at or below ``path`` (a star stands for any step)."""
    return len(path) <= len(other) and all(mine in ("*", theirs) for mine, theirs in zip(path, other, strict=False))


def ignore(olds: Properties, news: Properties, paths: list[str]) -> tuple[Properties, list[str]]:
    """Return the new inputs with the old values at the ignored paths, and the paths that could not be followed."""
    result: Properties = dict(news)
    wrong = []
    for text in paths:
        ok, changed = _reset(parse(text), olds, result)
        if ok and isinstance(changed, dict):
            result = changed
        else:
            wrong.append(text)
    return result, wrong


def _reset(path: list[Step], old: Any, new: Any) -> tuple[bool, Any]:
    """Return whether the path could be followed, and ``new`` with the old value there."""
    if not path:
        return True, old
    if isinstance(new, Sealed) or isinstance(old, Sealed):
        inner_old = old.value if isinstance(old, Sealed) else old
        ok, value = _reset(path, inner_old, new.value if isinstance(new, Sealed) else new)
        return ok, Sealed(value) if isinstance(new, Sealed) else value
    step, rest = path[0], path[1:]
    if step == "*":
        return _reset_all(rest, old, new)
    if isinstance(new, list) and isinstance(old, list) and isinstance(step, int):
        if step >= len(new) or step >= len(old):
            return step >= len(new) and step >= len(old), new
        ok, value = _reset(rest, old[step], new[step])
        return ok, [*new[:step], value, *new[step + 1 :]]
    if not isinstance(new, dict) or not isinstance(old, dict) or not isinstance(step, str):
        return False, new
    before, after = old.get(step, _MISSING), new.get(step, _MISSING)
    if not rest:
        return True, {**new, step: before} if before is not _MISSING else {k: v for k, v in new.items() if k != step}
    if before is _MISSING or after is _MISSING:
        return before is after, new
    ok, value = _reset(rest, before, after)
    return ok, {**new, step: value}


def _reset_all(rest: list[Step], old: Any, new: Any) -> tuple[bool, Any]:
    if isinstance(new, dict) and isinstance(old, dict):
        if not rest:
            return True, dict(old)
        if old.keys() != new.keys():
            return False, new
        done = {key: _reset(rest, old[key], new[key]) for key in new}
        return all(ok for ok, _ in done.values()), {key: value for key, (_, value) in done.items()}
    if isinstance(new, list) and isinstance(old, list):
        if not rest:
            return True, list(old)
        if len(old) != len(new):
            return False, new
        items = [_reset(rest, before, after) for before, after in zip(old, new, strict=True)]
        return all(ok for ok, _ in items), [value for _, value in items]
    return False, new
