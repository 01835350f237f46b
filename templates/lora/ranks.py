"""The processes of one training: how they meet, wait for each other and tell each other what they must know alike.

With one process nothing here does anything, and torch is not asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from telemetry import IS_MAIN, RANK, WORLD

LOCAL_RANK = int(os.environ.get("LOCAL_RANK", "0"))
NOTHING = -1
"""The number of a sample of one token, of which nothing is learnt: it fills up the last step of several processes."""


def meet(device: str) -> None:
    """Wait until all are there; before anything else takes up a group of its own."""
    if WORLD == 1:
        return
    import torch
    from torch import distributed

    if device == "cuda":
        torch.cuda.set_device(LOCAL_RANK)
    # What few numbers are told each other goes by the CPU: no GPU is waited for.
    backend, listening = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", os.environ.get("RANKS_MEETING")
    store = distributed.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), WORLD, RANK == 0, timedelta(minutes=10),
        master_listen_fd=int(listening) if listening else None,
    )  # fmt: skip
    distributed.init_process_group(backend, store=store, rank=RANK, world_size=WORLD)


def is_any(wish: bool) -> bool:
    """Tell whether one of all wishes it; all must ask."""
    if WORLD == 1:
        return wish
    import torch

    asked = torch.tensor([int(wish)])
    torch.distributed.all_reduce(asked)
    return bool(asked)


def total(*numbers: float) -> list[float]:
    """Return the sums over all."""
    if WORLD == 1:
        return list(numbers)
    import torch

    sums = torch.tensor(numbers, dtype=torch.float64)
    torch.distributed.all_reduce(sums)
    return [float(one) for one in sums]


def told(value: Any) -> list[Any]:
    """Return what each tells all, by rank."""
    if WORLD == 1:
        return [value]
    import torch

    values: list[Any] = [None] * WORLD
    torch.distributed.all_gather_object(values, value)
    return values


def wait() -> None:
    """Wait until all are here."""
    is_any(False)


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Do something when rank 0 has done it."""
    if not IS_MAIN:
        wait()
    yield
    if IS_MAIN:
        wait()
