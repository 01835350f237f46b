"""Read JSON that something outside has written: whatever is wrong with it is a ValueError, nesting without end too."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Iterator
from typing import Any

_LONG = 1_000_000
"""Characters, or bytes, of a text that holds many objects."""


def parse_json(text: str | bytes) -> Any:
    """Return what a text of JSON holds; raises ValueError (of a place: json.JSONDecodeError) for what is none or cannot be read."""
    try:
        with uncollected() if len(text) > _LONG else contextlib.nullcontext():
            return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Let many objects be made, all of which are kept, without a look for garbage among them: ten thousand pods take half the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
