"""Write sample.jsonl: about 200 rows of instruction/input/output, made up by this program from its seed.

usage: python make_sample.py > sample.jsonl
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

ROWS = 200
Pick = Callable[[Sequence[Any]], Any]
PLACES = [
    "the north yard",
    "platform two",
    "the old depot",
    "the river siding",
    "the coal bridge",
    "track nine",
    "the signal box",
    "the turntable",
]
CARGO = ["grain", "timber", "steel coils", "mail", "apples", "cement", "salt", "new bicycles"]
ENGINES = ["Aurora", "Blackbird", "Clementine", "Dorothea", "Everest", "Fennel", "Granite", "Hazel"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def dispatch(pick: Pick) -> tuple[str, str, str]:
    engine, cargo, place, day = pick(ENGINES), pick(CARGO), pick(PLACES), pick(DAYS)
    note = f"{day}: {engine} brings {cargo} to {place}."
    return "Turn the note into an order for the crew.", note, f"Crew of {engine}: take the {cargo} to {place} on {day}."


def question(pick: Pick) -> tuple[str, str, str]:
    engine, cargo, place = pick(ENGINES), pick(CARGO), pick(PLACES)
    return f"Where does {engine} stand?", f"{engine}, loaded with {cargo}, stands at {place}.", f"{engine} stands at {place}."


def count(pick: Pick) -> tuple[str, str, str]:
    first, second, cargo = pick(range(2, 40)), pick(range(2, 40)), pick(CARGO)
    return "How many wagons are there in all?", f"{first} wagons of {cargo} and {second} empty ones.", f"There are {first + second} wagons."


def plain(pick: Pick) -> tuple[str, str, str]:
    cargo, place = pick(CARGO), pick(PLACES)
    return f"Write a line for the log: {cargo} has arrived at {place}.", "", f"Arrived at {place}: {cargo}. All wagons checked."


def main() -> None:
    draw = random.Random(20)
    makers = [dispatch, question, count, plain]
    seen: set[tuple[str, str, str]] = set()
    while len(seen) < ROWS:
        row = makers[len(seen) % len(makers)](draw.choice)
        if row in seen:
            continue
        seen.add(row)
        print(json.dumps(dict(zip(("instruction", "input", "output"), row, strict=True))))


if __name__ == "__main__":
    main()
