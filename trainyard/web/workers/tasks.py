"""Two things that go on until the first of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def first_of(*going: Coroutine[object, object, None]) -> None:
    """Wait until the first one ends, or fails, and end the others; what it fails with ends nothing else."""
    tasks = [asyncio.create_task(each) for each in going]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
