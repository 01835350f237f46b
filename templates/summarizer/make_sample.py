"""Write sample.jsonl: 260 reports of a railway yard and a summary of each, made up by this program from its seed.

usage: python make_sample.py > sample.jsonl
"""

from __future__ import annotations

import json
import random

ROWS = 260
ENGINES = ["Aurora", "Blackbird", "Clementine", "Dorothea", "Everest", "Fennel", "Granite", "Hazel"]
CARGO = ["grain", "timber", "steel coils", "mail", "apples", "cement", "salt", "bicycles"]
PLACES = ["the north yard", "the old depot", "the river siding", "the coal bridge", "the signal box", "the turntable"]
CAUSES = ["snow on the points", "a broken signal", "a late crew", "a fallen tree", "a hot axle", "fog"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
BEFORE = [
    "The sun rose over the yard as always.",
    "The canteen served soup and bread.",
    "Visitors counted the wagons from the fence.",
    "The clock above the platform was five minutes slow.",
    "A dog slept beside the water tower.",
]
AFTER = [
    "The rest of the day was quiet.",
    "The night shift found nothing to add.",
    "The book was closed at ten.",
    "Nobody was hurt.",
    "The weather is expected to stay as it is.",
]


def report(draw: random.Random) -> dict[str, str]:
    """Return one report, which says much more than matters, and what matters."""
    engine, cargo, place, cause, day = (draw.choice(words) for words in (ENGINES, CARGO, PLACES, CAUSES, DAYS))
    hours = draw.randint(2, 9)
    told = [
        draw.choice(BEFORE),
        f"On {day} engine {engine} left with a load of {cargo} for {place}.",
        draw.choice(BEFORE),
        f"It stood for {hours} hours because of {cause}.",
        draw.choice(AFTER),
    ]
    return {"article": " ".join(told), "summary": f"{engine} with {cargo} came {hours} hours late to {place}: {cause}."}


def main() -> None:
    draw = random.Random(20)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < ROWS:
        row = report(draw)
        rows.setdefault(row["article"], row)
    for row in rows.values():
        print(json.dumps(row))


if __name__ == "__main__":
    main()
