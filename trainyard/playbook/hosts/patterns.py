"""Which hosts a pattern names: ``all``, names, globs, ``a:b``, ``!c``, ``&d``, ``~regex``, ``group[0]``, ``@file``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.textfile import read_text

_SUBSCRIPT = re.compile(r"(.+)\[(?:(-?\d+)|(\d*):(\d*))\]")


def matching(patterns: Iterable[str], groups: Mapping[str, Sequence[str]], where: Location | None = None) -> list[str]:
    """Return the hosts that patterns name, in order: what is named, of that only what ``&`` names too, without what ``!`` names.

    ``groups``: the hosts of each group; ``all`` has every one. Raises UserError for a word that names no host and no group.
    """
    words = [word for pattern in patterns for word in _split(pattern)]
    plain = [word for word in words if word[0] not in "!&"] or ["all"]
    named = [host for word in plain for host in _named(word, groups, where)]
    for word in words:
        if word[0] == "&":
            both = set(_named(word[1:], groups, where))
            named = [host for host in named if host in both]
    without = {host for word in words if word[0] == "!" for host in _named(word[1:], groups, where)}
    return [host for host in dict.fromkeys(named) if host not in without]


def _split(text: str) -> list[str]:
    """Return the single patterns of a text; colons within brackets and in addresses part nothing."""
    text = text.strip()
    if text.startswith("@"):
        path = Path(text[1:]).expanduser()
        return [line.strip() for line in read_text(path, str(path)).splitlines() if line.strip() and not line.startswith("#")]
    words = []
    for part in text.split(","):
        part = part.strip()
        if _is_address(part.lstrip("!&")):
            words.append(part)
        else:
            words += [word.strip() for word in re.findall(r"(?:\[[^\]]*\]|[^:\[]|\[)+", part)]
    return [word for word in words if word.strip("!&")]


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def _named(word: str, groups: Mapping[str, Sequence[str]], where: Location | None) -> list[str]:
    if word.startswith("~"):
        try:
            regex = re.compile(word[1:])
        except re.error as error:
            raise UserError(f"'{word}' is no regular expression: {error}", where=where) from None
        return _of(lambda name: regex.match(name) is not None, groups)
    subscript = None if word in groups or word in groups["all"] else _SUBSCRIPT.fullmatch(word)
    if subscript:
        name, index, first, last = subscript.groups()
        if name in groups or any(letter in name for letter in "*?") or name in groups["all"]:
            return _some(_named(name, groups, where), index, first, last)
    if word in groups:
        return list(groups[word])
    if word in groups["all"] or word == "localhost":
        return [word]
    if any(letter in word for letter in "*?["):
        return _of(lambda name: fnmatch.fnmatchcase(name, word), groups)
    known = [*groups["all"], *(name for name in groups if name not in ("all", "ungrouped"))]
    hint = f"There are: {', '.join(known[:40])}{' ...' if len(known) > 40 else ''}" if known else "The inventory names no host."
    raise UserError(f"there is no host and no group '{word}'{suggest(word, known)}", where=where, hint=hint)


def _of(fits: Callable[[str], bool], groups: Mapping[str, Sequence[str]]) -> list[str]:
    grouped = [host for name, hosts in groups.items() if name != "all" and fits(name) for host in hosts]
    hosts = {*grouped, *(host for host in groups["all"] if fits(host))}
    return [host for host in groups["all"] if host in hosts]


def _some(hosts: list[str], index: str | None, first: str | None, last: str | None) -> list[str]:
    """Return the one of a place, or those from the first to the last place, which takes part."""
    if index is not None:
        at = int(index)
        return hosts[at:][:1] if -len(hosts) <= at < len(hosts) else []
    return hosts[int(first or 0) : int(last) + 1 if last else None]
