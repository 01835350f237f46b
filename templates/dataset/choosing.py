"""Which of the rows are taken, and on which side of the split they stand. Every draw depends on seed and text alone."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

from spool import Spool

_DAY = 86_400.0
_RANGE = 2.0**63


def choose(spool: Spool, config: Mapping[str, Any]) -> None:
    """Drop rows by age, by tag and by number, as the settings say."""
    if config["half_life_days"]:
        _by_age(spool, config["half_life_days"] * _DAY)
    if config["max_per_tag"]:
        _by_tag(spool, config["max_per_tag"])
    if config["max_rows"]:
        query = "SELECT id FROM meta WHERE reason IS NULL ORDER BY second, id LIMIT -1 OFFSET ?"
        spool.drop("more than max_rows", array("q", (number for (number,) in spool.select(query, config["max_rows"]))))


def _by_age(spool: Spool, half_life: float) -> None:
    """Drop a row with the probability of its age, counted from the newest; what has no time stays."""
    newest = spool.one("SELECT MAX(at) FROM meta WHERE reason IS NULL")
    query = "SELECT id, first, at FROM meta WHERE reason IS NULL AND at IS NOT NULL ORDER BY id"
    gone = (number for number, draw, at in spool.select(query) if draw / _RANGE >= 0.5 ** ((newest - at) / half_life))
    spool.drop("old, by half_life_days", array("q", gone))


def tags(spool: Spool) -> Counter[str]:
    """Return how many rows that stay have each tag."""
    found: Counter[str] = Counter()
    for (text,) in spool.select("SELECT tags FROM meta WHERE reason IS NULL AND tags IS NOT NULL ORDER BY id"):
        found.update(json.loads(text))
    return found


def _by_tag(spool: Spool, most: int) -> None:
    counts = tags(spool)
    spool.run("CREATE TABLE rarity (id INTEGER PRIMARY KEY, rarest INTEGER)")
    query = "SELECT id, tags FROM meta WHERE reason IS NULL AND tags IS NOT NULL"
    known = ((number, min(counts[tag] for tag in json.loads(text))) for number, text in spool.select(query))
    spool.change("INSERT INTO rarity VALUES (?, ?)", known)
    taken: Counter[str] = Counter()
    gone = array("q")
    # A row that has a rare tag comes before those that would fill the common ones.
    for number, text in spool.select("SELECT id, tags FROM meta JOIN rarity USING (id) ORDER BY rarest, second, id"):
        own = json.loads(text)
        if any(taken[tag] >= most for tag in own):
            gone.append(number)
        else:
            taken.update(own)
    spool.drop("more than max_per_tag", gone)


def split(spool: Spool, share: float, by_time: bool) -> int:
    """Hold whole groups back until they are the share that is asked for; return how many groups there are."""
    groups = "SELECT CASE WHEN grp > 0 THEN grp ELSE -id END AS unit, COUNT(*) AS many, MAX(at) AS newest, MIN(second) AS draw FROM meta"
    order = "newest IS NULL, newest DESC, draw, unit" if by_time else "draw, unit"
    wanted = round(spool.kept() * share)
    held, count, units = 0, 0, array("q")
    for unit, many, _, _ in spool.select(f"{groups} WHERE reason IS NULL GROUP BY unit ORDER BY {order}"):
        count += 1
        if held + many <= wanted:
            held += many
            units.append(unit)
    alone, together = ((-unit,) for unit in units if unit < 0), ((unit,) for unit in units if unit > 0)
    spool.change("UPDATE meta SET held = 1 WHERE id = ?", alone)
    spool.run("CREATE INDEX groups ON meta (grp)")
    spool.change("UPDATE meta SET held = 1 WHERE grp = ?", together)
    return count
