"""Rows on disk while they are judged: memory stays flat, whatever the size of the sources."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_TABLES = """
CREATE TABLE meta (
    id INTEGER PRIMARY KEY, place TEXT, form TEXT, hash BLOB, prompt BLOB, at REAL, size INTEGER, tags TEXT,
    first INTEGER, second INTEGER, grp INTEGER DEFAULT 0, reason TEXT, detail TEXT, held INTEGER DEFAULT 0
);
CREATE TABLE bodies (id INTEGER PRIMARY KEY, body TEXT);
CREATE TABLE signatures (id INTEGER PRIMARY KEY, signature BLOB);
"""


@dataclass(frozen=True, slots=True)
class Example:
    """A row as it goes into the data set, and what it is judged by."""

    form: str
    fields: dict[str, Any]
    text: str
    """What is compared with other rows: all it says, less what the builder itself has put there."""
    prompt: str
    """What it asks, where rows that ask the same belong together."""
    at: float | None
    tags: tuple[str, ...]


class Spool:
    """The rows that stay and those that are dropped, in a database of this build alone."""

    def __init__(self, folder: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        os.environ["SQLITE_TMPDIR"] = folder
        self.folder = folder
        self._db = sqlite3.connect(os.path.join(folder, "rows.db"), isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", "cache_size=-20000", "locking_mode=EXCLUSIVE"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")
        self.count = 0

    def add(self, place: str, example: Example, digests: tuple[bytes, bytes | None, int, int], signature: bytes) -> None:
        """Take a row; ``digests``: of its text, of its prompt, and two draws."""
        self.count += 1
        text, prompt, first, second = digests
        tags = json.dumps(example.tags) if example.tags else None
        names = "id, place, form, hash, prompt, at, size, tags, first, second"
        meta = (self.count, place, example.form, text, prompt, example.at, len(example.text), tags, first, second)
        body = json.dumps(example.fields, ensure_ascii=False, allow_nan=False)
        self._db.execute(f"INSERT INTO meta ({names}) VALUES (?,?,?,?,?,?,?,?,?,?)", meta)
        self._db.execute("INSERT INTO bodies VALUES (?,?)", (self.count, body))
        self._db.execute("INSERT INTO signatures VALUES (?,?)", (self.count, signature))

    def select(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the answers to a question over the rows."""
        return self._db.execute(query, values)

    def one(self, query: str, *values: Any) -> Any:
        """Return the only value of an answer."""
        return self._db.execute(query, values).fetchone()[0]

    def change(self, query: str, values: Iterator[tuple[Any, ...]] | Sequence[tuple[Any, ...]]) -> None:
        """Say a change for each tuple of values."""
        self._db.executemany(query, values)

    def run(self, statement: str) -> None:
        """Say a statement that has no answer."""
        self._db.execute(statement)

    def signature(self, number: int) -> int:
        """Return the MinHash signature of a row, its values side by side in one number."""
        return int.from_bytes(self.one("SELECT signature FROM signatures WHERE id = ?", number), "little")

    def kept(self) -> int:
        """Return how many rows stay."""
        return int(self.one("SELECT COUNT(*) FROM meta WHERE reason IS NULL"))

    def drop(self, reason: str, numbers: array[int], others: array[int] | None = None, likeness: Sequence[float] | None = None) -> None:
        """Drop rows for a reason; ``others``: the rows that stay in their place."""
        names: dict[int, str] = {}

        def values() -> Iterator[tuple[Any, ...]]:
            for place, number in enumerate(numbers):
                detail = None
                if others is not None:
                    other = others[place]
                    if other not in names:
                        names.clear() if len(names) > 1000 else None
                        names[other] = self.one("SELECT place FROM meta WHERE id = ?", other)
                    detail = json.dumps({"kept": names[other], **({"likeness": round(likeness[place], 3)} if likeness else {})})
                yield reason, detail, number

        self.change("UPDATE meta SET reason = ?, detail = ? WHERE id = ?", values())

    def drop_flawed(self, reason: str, flaws: Sequence[tuple[int, str]]) -> None:
        """Drop rows each of which has its own flaw."""
        values = [(reason, json.dumps({"flaw": flaw}, ensure_ascii=False), number) for number, flaw in flaws]
        self.change("UPDATE meta SET reason = ?, detail = ? WHERE id = ?", values)

    def dropped(self) -> Iterator[dict[str, Any]]:
        """Yield what is said of each row that was dropped here, in the order of the sources."""
        for place, reason, detail in self.select("SELECT place, reason, detail FROM meta WHERE reason IS NOT NULL ORDER BY id"):
            yield {"place": place, "reason": reason, **(json.loads(detail) if detail else {})}

    def reasons(self) -> Counter[str]:
        """Return how many rows were dropped here for each reason."""
        return Counter(dict(self.select("SELECT reason, COUNT(*) FROM meta WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason")))

    def bodies(self, held: bool) -> Iterator[str]:
        """Yield the rows that stay, of one side of the split, as JSON."""
        query = "SELECT body FROM meta JOIN bodies USING (id) WHERE reason IS NULL AND held = ? ORDER BY id"
        return (body for (body,) in self.select(query, int(held)))

    def close(self) -> None:
        """Remove it."""
        self._db.close()
        shutil.rmtree(self.folder, ignore_errors=True)
