"""Rows are packed: several in one of max_seq_length tokens, each with positions of its own, so that attention does not cross them."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import torch
from ranks import NOTHING
from samples import Item, Samples

SAME = 0.1
"""How far a packed row may be from the same row alone, as a share of what attention across rows would change."""


class Groups(torch.utils.data.Dataset):
    """Samples that are trained together: an item is a list of them."""

    def __init__(self, found: Samples, groups: Sequence[Sequence[int]]) -> None:
        self._found, self._groups = found, groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> list[Item]:
        return [self._found[number] for number in ([NOTHING] if index == NOTHING else self._groups[index])]


def packed(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Return groups of samples of at most ``limit`` tokens: the longest first, each where the least room is left."""
    groups: list[list[int]] = []
    room: list[tuple[int, int]] = []  # what is free in which group, sorted
    for number in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        place = bisect.bisect_left(room, (lengths[number], -1))
        free, group = room.pop(place) if place < len(room) else (limit, len(groups))
        if group == len(groups):
            groups.append([])
        groups[group].append(number)
        bisect.insort(room, (free - lengths[number], group))
    return groups


def collate(pad_id: int) -> Callable[[Sequence[Sequence[Item]]], dict[str, Any]]:
    """Return the function that makes a batch of packs. Padding is a row of its own that nobody looks at."""

    def batch(packs: Sequence[Sequence[Item]]) -> dict[str, Any]:
        sizes = [sum(len(ids) for ids, _, _ in pack) for pack in packs]
        width = max(sizes)
        tokens = sum(len(ids) for pack in packs for ids, _, number in pack if number != NOTHING)
        ids = torch.full((len(packs), width), pad_id, dtype=torch.long)
        labels = torch.full((len(packs), width), -100, dtype=torch.long)
        positions = torch.zeros((len(packs), width), dtype=torch.long)
        rows = torch.full((len(packs), max(map(len, packs))), -1, dtype=torch.long)
        for number, pack in enumerate(packs):
            at = 0
            for place, (row, mask, sample) in enumerate(pack):
                values, learnt = torch.from_numpy(row.astype(numpy.int64)), torch.from_numpy(mask.copy())
                learnt[0] = False  # what stands before it is another row's
                here = slice(at, at + len(row))
                ids[number, here], positions[number, here] = values, torch.arange(len(row))
                labels[number, here] = torch.where(learnt, values, -100)
                rows[number, place], at = sample, at + len(row)
            positions[number, at:] = torch.arange(width - at)
        return {"input_ids": ids, "position_ids": positions, "labels": labels, "rows": rows, "tokens": torch.tensor([tokens])}

    return batch


def problem(model: Any, found: Samples, pad_id: int) -> str | None:
    """Return why rows cannot be packed for a model, None when they can: found out by two rows, together and alone."""
    numbers = sorted(range(len(found)), key=lambda each: (len(found[each][0]), each))[:2]
    if len(numbers) < 2:
        return None
    one, two = (found[number] for number in numbers)
    start, device = len(one[0]), next(model.parameters()).device
    batch = collate(pad_id)
    training = model.training
    model.eval()
    with torch.no_grad():

        def said(pack: list[Item], apart: bool = True) -> Any:
            made = batch([pack])
            positions = made["position_ids"] if apart else torch.arange(made["input_ids"].shape[1])[None]
            return model(input_ids=made["input_ids"].to(device), position_ids=positions.to(device)).logits[0].float()

        alone, together, mixed = said([two]), said([one, two])[start:], said([one, two], apart=False)[start:]
    model.train(training)
    apart, across = float((together - alone).abs().max()), float((mixed - alone).abs().max())
    if apart <= max(SAME * across, 1e-5):
        return None
    return (
        f"packing: in this base attention goes across packed rows (what it says of a row changes by {apart:.2g} beside another; "
        "its attention does not heed positions that begin anew): set packing to false"
    )
