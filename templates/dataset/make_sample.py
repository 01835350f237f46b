"""Write sample.json: memories of a person who does not exist, made up by this program from its seed.

usage: python make_sample.py > sample.json
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

ROWS = 120
PEOPLE = ["Ines", "Tomas", "Grandma Lea", "Mr. Okoro", "Yuki", "Bram"]
PLACES = ["the harbour", "the workshop", "the old library", "the allotment", "the night train", "the rowing club"]
THINGS = {
    "work": ["the bearing of the crane was noisy again", "the drawings for the new pump came back", "we measured the keel twice"],
    "family": ["the soup needed more lemon", "the photo album fell open at the wedding", "the cat slept in the sewing box"],
    "sport": ["the water was flat as glass", "my left hand blistered", "we were two seconds faster than in May"],
    "travel": ["the ticket inspector sang", "we missed the last tram and walked", "the map was from before the war"],
}
ENDS = ["I want to remember that.", "It made the day.", "Nobody else noticed.", "I wrote it down at once.", "We laughed about it later."]


def main() -> None:
    draw = random.Random(7)
    found, at = [], datetime(2024, 3, 1, 8, tzinfo=UTC)
    seen: set[str] = set()
    while len(found) < ROWS:
        tag = draw.choice(sorted(THINGS))
        who, where, what, end = draw.choice(PEOPLE), draw.choice(PLACES), draw.choice(THINGS[tag]), draw.choice(ENDS)
        begins = (f"Met {who} at {where}: {what}", f"At {where} with {who}; {what}", f"{who} told me at {where} that {what}")
        content = f"{draw.choice(begins)}. {end}"
        at += timedelta(hours=draw.randint(3, 90))
        if content in seen:
            continue
        seen.add(content)
        found.append({"timestamp": at.isoformat(), "content": content, "tags": [tag], "entities": [who, where]})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
