"""The word that a person may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], count: int = 3, cutoff: float = 0.5) -> list[str]:
    """Return up to ``count`` known words that look like one, the likest first; the dashes of options make none alike."""
    import difflib  # only where a word is wrong

    bare = {name.lstrip("-"): name for name in known}
    return [bare[name] for name in difflib.get_close_matches(word.lstrip("-"), list(bare), n=count, cutoff=cutoff)]


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known word, or an empty text."""
    near = nearest(word, known, 1, 0.65)
    return f" (did you mean '{near[0]}'?)" if near else ""
