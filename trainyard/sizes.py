"""Numbers of bytes as people read them."""

from __future__ import annotations


def human_size(count: int) -> str:
    """Return a number of bytes with its unit: 512 B, 1.5 MiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
