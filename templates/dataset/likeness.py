"""Rows that say the same, exactly or nearly: by a digest of their text, and by MinHash over pieces of it.

Two rows are held against each other when they agree in one of the bands of their signatures; they count as alike by the
share of the whole signature in which they agree, so that no row is dropped by the chance of a band.
"""

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import rensa
from spool import Spool

PERMUTATIONS = 128
BANDS = 16
_BYTES = PERMUTATIONS * 4 // BANDS
_BELOW = int.from_bytes(b"\xff\xff\xff\x7f" * PERMUTATIONS, "little")
_TOP = int.from_bytes(b"\0\0\0\x80" * PERMUTATIONS, "little")
_PIECE = 5
_LONG = 20_000
"""Texts longer than this are compared by groups of words: pieces of letters would be too many."""
_MOST = 1 << 20
LINKED = 0.7
"""From here on rows stand on one side of the split; what is dropped must be more alike."""
_LEADERS, _COMPARED = 16, 64
_PROMPT = 40
"""Shorter prompts (hello) say nothing of what two conversations share."""


def squashed(text: str) -> str:
    """Return a text as it is compared: case and blank space aside."""
    return " ".join(text.casefold().split())


def digest(text: str) -> bytes:
    """Return what tells two texts apart."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def draws(text: str, seed: int) -> tuple[int, int]:
    """Return two numbers below 2^63 that depend on the text and the seed alone."""
    drawn = hashlib.blake2b(text.encode(), digest_size=16, key=str(seed).encode()).digest()
    return int.from_bytes(drawn[:8], "big") >> 1, int.from_bytes(drawn[8:], "big") >> 1


def digests(text: str, prompt: str, seed: int) -> tuple[bytes, bytes | None, int, int]:
    """Return what the spool keeps of a text (squashed) and of its prompt."""
    asked = squashed(prompt)
    return digest(text), digest(asked) if len(asked) >= _PROMPT else None, *draws(text, seed)


def signatures(texts: Sequence[str], seed: int) -> Iterator[bytes]:
    """Yield the MinHash signature of each text (squashed)."""
    for found in rensa.RMinHash.digests_from_token_sets([_pieces(text) for text in texts], num_perm=PERMUTATIONS, seed=seed):
        yield array("I", found).tobytes()  # kept as bytes, compared as one whole number


def _pieces(text: str) -> list[str]:
    if len(text) <= _LONG:
        return [text[at : at + _PIECE] for at in range(max(1, len(text) - _PIECE + 1))]
    words = text[:_MOST].split()
    return [" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))]


def drop_same(spool: Spool) -> None:
    """Drop all but one of the rows that say the same: the newest stays, else the first."""
    gone, stay = array("q"), array("q")
    for first, number in _pairs(spool, "SELECT hash, id FROM meta WHERE reason IS NULL ORDER BY hash, at IS NULL, at DESC, id"):
        gone.append(number)
        stay.append(first)
    spool.drop("duplicate", gone, stay)
    spool.change("DELETE FROM signatures WHERE id = ?", ((number,) for number in gone))


def drop_alike(spool: Spool, likeness: float, drop: bool, progress: Callable[[str], object]) -> None:
    """Find the groups of rows that are nearly alike or ask the same; drop of those alike all but the newest, longest, first."""
    parents = array("q", range(spool.count + 1))
    for band in range(BANDS):
        progress(f"looking for rows that are nearly alike: {band / BANDS:.0%}")
        _link_band(spool, band, min(LINKED, likeness), parents)
    for first, number in _pairs(spool, "SELECT prompt, id FROM meta WHERE reason IS NULL AND prompt IS NOT NULL ORDER BY prompt, id"):
        _join(parents, first, number)
    _write_groups(spool, parents)
    if drop:
        _drop_in_groups(spool, likeness)


def _pairs(spool: Spool, query: str) -> Iterator[tuple[int, int]]:
    """Yield (first, other) of the rows, in their order, that have the same value."""
    known, first = None, 0
    for value, number in spool.select(query):
        if value == known:
            yield first, number
        known, first = value, first if value == known else number


def _link_band(spool: Spool, band: int, linked: float, parents: array[int]) -> None:
    query = "SELECT substr(signature, ?, ?) AS part, id FROM signatures ORDER BY part, id"
    for _, rows in groupby(spool.select(query, band * _BYTES + 1, _BYTES), key=operator.itemgetter(0)):
        leaders: list[tuple[int, int]] = []
        waiting: int | None = None
        for _, number in rows:
            if not leaders and waiting is None:
                waiting = number  # most rows are alone in their band: their signature is never read
                continue
            if waiting is not None:
                leaders, waiting = [(waiting, spool.signature(waiting))], None
            if any(_root(parents, number) == _root(parents, leader) for leader, _ in leaders):
                continue
            own = spool.signature(number)
            like = next((leader for leader, signature in leaders if agreement(own, signature) >= linked), None)
            if like is not None:
                _join(parents, like, number)
            elif len(leaders) < _LEADERS:
                leaders.append((number, own))


def agreement(one: int, other: int) -> float:
    """Return the share in which two signatures agree: an estimate of the Jaccard likeness of the texts."""
    differ = one ^ other
    # All lanes of 32 bits at once: adding carries into the top bit of each lane that is not zero, and never beyond it.
    return 1 - ((((differ & _BELOW) + _BELOW) | differ) & _TOP).bit_count() / PERMUTATIONS


def _write_groups(spool: Spool, parents: array[int]) -> None:
    sizes = array("q", bytes(8 * len(parents)))
    for number in range(1, len(parents)):
        sizes[_root(parents, number)] += 1
    roots = ((number, _root(parents, number)) for number in range(1, len(parents)))
    spool.change("UPDATE meta SET grp = ? WHERE id = ?", ((root, number) for number, root in roots if sizes[root] > 1))


def _drop_in_groups(spool: Spool, likeness: float) -> None:
    gone, stay, how = array("q"), array("q"), array("d")
    query = "SELECT grp, id FROM meta WHERE reason IS NULL AND grp > 0 ORDER BY grp, at IS NULL, at DESC, size DESC, id"
    for _, rows in groupby(spool.select(query), key=operator.itemgetter(0)):
        kept: list[tuple[int, int]] = []
        for _, number in rows:
            own = spool.signature(number)
            found = next(((other, share) for other, signature in kept if (share := agreement(own, signature)) >= likeness), None)
            if found:
                gone.append(number)
                stay.append(found[0])
                how.append(found[1])
            elif len(kept) < _COMPARED:
                kept.append((number, own))
    spool.drop("nearly a duplicate", gone, stay, how)


def _root(parents: array[int], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = parents[number]
    return number


def _join(parents: array[int], one: int, other: int) -> None:
    first, second = sorted((_root(parents, one), _root(parents, other)))
    parents[second] = first
