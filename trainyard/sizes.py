"""Amounts of bytes as people read them: powers of 1000, as clouds and disks are sold."""

from __future__ import annotations


def human_size(count: float) -> str:
    """Return a number of bytes with its unit, as ``33.0 kB``."""
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.95 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
