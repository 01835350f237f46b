"""Names of hosts as inventories write them: ``web[01:10].example``, ``db-[a:f]``, ``[2001:db8::1]:2222``."""

from __future__ import annotations

import itertools
import re

from trainyard.errors import Location, UserError

MOST = 10_000
"""So many hosts come of one range at most: more are a slip of the finger."""
_RANGE = re.compile(r"\[(?:(\d+):(\d+)|([a-zA-Z]):([a-zA-Z]))(?::(\d+))?\]")
_NAME = re.compile(r"[^\s,;\[\]{}\"'`$&|<>()\\!*?#-][^\s,;\[\]{}\"'`$&|<>()\\!*?#]*")


def expand(text: str, where: Location | None) -> tuple[list[str], int | None]:
    """Return the names that a text stands for and the port behind them; raises UserError at its place."""
    name, port = _port(text)
    pieces: list[list[str]] = []
    at = 0
    for match in _RANGE.finditer(name):
        pieces += [[name[at : match.start()]], _steps(match, where)]
        at = match.end()
    pieces.append([name[at:]])
    count = 1
    for piece in pieces:
        count *= len(piece)
    if count > MOST:
        raise UserError(f"'{text}' stands for {count} hosts", where=where, hint=f"A range has at most {MOST}.")
    names = ["".join(parts) for parts in itertools.product(*pieces)]
    for each in names:
        if not _NAME.fullmatch(each):
            raise UserError(f"'{each}' is no name of a host", where=where, hint="A range is written [1:9], [01:09], [a:f] or [0:8:2].")
    return names, port


def _port(text: str) -> tuple[str, int | None]:
    """Take the port off; an address of IPv6 has one only behind brackets."""
    if (match := re.fullmatch(r"\[([0-9A-Fa-f:.]*::?[0-9A-Fa-f:.]*)\](?::(\d{1,5}))?", text)) and not _RANGE.fullmatch(f"[{match[1]}]"):
        return match[1], int(match[2]) if match[2] else None
    match = re.fullmatch(r"((?:[^:\[\]]|\[[^\]]*\])+):(\d{1,5})", text)
    return (match[1], int(match[2])) if match else (text, None)


def _steps(match: re.Match[str], where: Location | None) -> list[str]:
    first, last, low, high, step = match.groups()
    by = int(step or 1)
    start, end = (int(first), int(last)) if first else (ord(low), ord(high))
    if by < 1 or end < start:
        raise UserError(f"the range {match[0]} is empty", where=where)
    if (end - start) // by >= MOST:
        raise UserError(f"the range {match[0]} is too long", where=where, hint=f"A range has at most {MOST} hosts.")
    width = len(first) if first and first.startswith("0") else 0
    return [str(number).zfill(width) if first else chr(number) for number in range(start, end + 1, by)]
