"""The picture that tests/pages/record.py makes, as the lines that a person sees at its end."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "assets" / "train.svg"
_SVG = "{http://www.w3.org/2000/svg}"


def lines() -> list[str]:
    """Return the lines that stay, from top to bottom."""
    texts = [text for text in ET.parse(PICTURE).getroot().iter(f"{_SVG}text") if text.get("class") == "on"]
    return ["".join(_padded(text)) for text in sorted(texts, key=lambda text: float(text.get("y", "0")))]


def _padded(text: ET.Element) -> Iterable[str]:
    at = 0.0
    for span in text.iter(f"{_SVG}tspan"):
        begins = (float(span.get("x", "0")) - 16.0) / 8.4
        yield " " * round(begins - at) + (span.text or "")
        at = begins + len(span.text or "")


def stages(shown: Iterable[str]) -> set[str]:
    """Return each stage with what it announces; where that is a run's own, the stage alone."""
    found = (re.match(r"([a-z]+) {2,}(.*)", line) for line in shown)
    own = {"recipe", "name"}
    return {match[1] if match[1] in own or re.search(r"\d", match[2]) else f"{match[1]}: {match[2].strip()}" for match in found if match}
