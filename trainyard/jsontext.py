"""Read JSON that something outside has written: whatever is wrong with it is a ValueError, nesting without end too."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return what a text of JSON holds; raises ValueError (of a place: json.JSONDecodeError) for what is none or cannot be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None
