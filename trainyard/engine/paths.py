"""Property paths (``a.b[0]["c d"].*``) of ignore_changes and replace_on_changes, read and followed as the CLI does."""

from __future__ import annotations

import re
from typing import Any

from trainyard.engine.kinds import SIGNATURE, Properties, SecretValue
from trainyard.engine.values import equal

Step = str | int
_PART = re.compile(r"""([^.\[]+)|\[(-?\d+|\*)\]|\["((?:\\"|[^"])*)"\]""")
_PLAIN = re.compile(r"[A-Za-z0-9_]*\Z")
_MISSING = object()


def parse(text: str) -> list[Step] | None:
    """Return the steps of a path, None for one that cannot be read (it then stands for nothing)."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        if text[at] == ".":
            if at == 0 or at + 1 == len(text):
                return None
            at += 1
            continue
        match = _PART.match(text, at)
        if match is None:
            return None
        key, index, quoted = match.groups()
        if index is not None:
            steps.append("*" if index == "*" else int(index))
        else:
            steps.append(key if key is not None else quoted.replace('\\"', '"'))
        at = match.end()
    return steps


def text_of(steps: list[Step]) -> str:
    """Return a path as text; a key that is more than letters and digits is quoted."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not _PLAIN.match(step):
            escaped = step.replace('"', '\\"')
            text += f'["{escaped}"]'
        else:
            text += f".{step}" if text else step
    return text


def contains(path: list[Step], other: list[Step]) -> bool:
    """Say whether ``other`` lies at or below ``path`` (a star stands for any step)."""
    return len(path) <= len(other) and all(mine in ("*", theirs) for mine, theirs in zip(path, other, strict=False))


def differences(olds: Properties, news: Properties) -> dict[str, str]:
    """Return what differs between two sets of clear inputs: path -> ADD, DELETE or UPDATE. None is nothing, as in the CLI."""
    differing: dict[str, str] = {}
    _compare([], olds, news, differing)
    return differing


def ignore(olds: Properties, news: Properties, paths: list[str]) -> tuple[Properties, list[str]]:
    """Return the new inputs with the old values at the ignored paths, and the paths that could not be followed to their end.

    What was reached before such a path broke off keeps its old value all the same.
    """
    result: Properties = _copy(news)
    wrong = []
    for text in paths:
        path = parse(text)
        if path is not None and not _reset(path, olds, result, False, False):
            wrong.append(text)
    return result, wrong


def _reset(path: list[Step], old: Any, new: Any, old_secret: bool, new_secret: bool) -> bool:
    """Give ``new`` the old value at the path, in place; what was secret stays so. False where it does not lead on in both."""
    while isinstance(old, SecretValue):
        old, old_secret = old.value, True
    while isinstance(new, SecretValue):
        new, new_secret = new.value, True
    if not path:
        return False
    step, rest = path[0], path[1:]
    seal = old_secret and not new_secret
    if step == "*":
        return _reset_all(old, new, seal) if not rest else _reset_each(rest, old, new, old_secret, new_secret)
    if isinstance(step, int):
        return _reset_item(step, rest, old, new, old_secret, new_secret)
    if not rest:
        return _reset_key(step, old, new, seal)
    if not _is_object(old) or not _is_object(new):
        return not _is_object(old) and not _is_object(new)
    if step not in new:
        return step not in old
    return _reset(rest, old.get(step), new[step], old_secret, new_secret)


def _reset_key(key: str, old: Any, new: Any, seal: bool) -> bool:
    value = old.get(key, _MISSING) if _is_object(old) else _MISSING
    if value is _MISSING:
        if _is_object(new):
            new.pop(key, None)
        return True
    if not _is_object(new):
        return False
    new[key] = _keep_sealed(value, seal)
    return True


def _reset_item(index: int, rest: list[Step], old: Any, new: Any, old_secret: bool, new_secret: bool) -> bool:
    if index < 0:
        return False
    if not isinstance(old, list) or not isinstance(new, list):
        return not isinstance(old, list) and not isinstance(new, list)
    if index >= len(old) or index >= len(new):
        return not rest and index >= len(old) and index >= len(new)
    if rest:
        return _reset(rest, old[index], new[index], old_secret, new_secret)
    new[index] = _keep_sealed(old[index], old_secret and not new_secret)
    return True


def _reset_all(old: Any, new: Any, seal: bool) -> bool:
    """Follow a star that ends a path."""
    if _is_object(new):
        if _is_object(old):
            new.clear()
            new.update((key, _keep_sealed(value, seal)) for key, value in old.items())
        return True
    if isinstance(new, list):
        if not isinstance(old, list):
            return True
        for index, (value, _) in enumerate(zip(old, new, strict=False)):
            new[index] = _keep_sealed(value, seal)
        return len(old) == len(new)
    return False


def _reset_each(rest: list[Step], old: Any, new: Any, old_secret: bool, new_secret: bool) -> bool:
    """Follow a star in the middle of a path."""
    if _is_object(old) and _is_object(new):
        done = [_reset(rest, old[key], new[key], old_secret, new_secret) for key in old if key in new]
        return all(done) and old.keys() <= new.keys()
    if isinstance(old, list) and isinstance(new, list):
        for before, after in zip(old, new, strict=False):
            if not _reset(rest, before, after, old_secret, new_secret):
                return False
        return len(old) == len(new)
    return False


def _compare(path: list[Step], old: Any, new: Any, differing: dict[str, str]) -> None:
    if _is_object(old) and _is_object(new):
        for key in sorted({*old, *new}):
            _compare([*path, key], old.get(key), new.get(key), differing)
    elif isinstance(old, list) and isinstance(new, list):
        for index, (before, after) in enumerate(zip(old, new, strict=False)):
            _compare([*path, index], before, after, differing)
        shorter = min(len(old), len(new))
        kind = "ADD" if len(new) > len(old) else "DELETE"
        differing.update((text_of([*path, index]), kind) for index in range(shorter, max(len(old), len(new))))
    elif not equal(old, new):
        differing[text_of(path)] = "ADD" if old is None else "DELETE" if new is None else "UPDATE"


def _is_object(value: Any) -> bool:
    """Whether keys of it are properties; assets and references are single values."""
    return isinstance(value, dict) and SIGNATURE not in value


def _keep_sealed(value: Any, seal: bool) -> Any:
    return SecretValue(_copy(value)) if seal else _copy(value)


def _copy(value: Any) -> Any:
    if isinstance(value, SecretValue):
        return SecretValue(_copy(value.value))
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value
