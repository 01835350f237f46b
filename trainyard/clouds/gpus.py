"""GPU names in every spelling: people write ``H100``, ``RTX_4090`` or ``NVIDIA GeForce RTX 5090``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from trainyard.nearest import nearest

_NOISE = ("nvidia", "geforce", "tesla", "amd", "instinct", "generation")


@dataclass(frozen=True, slots=True)
class GpuType:
    """One type of GPU; ``runpod`` is its id there, empty where it has none."""

    name: str
    vram_gb: int
    runpod: str = ""
    family: str = ""
    """The short word that also means this type, e.g. ``H100`` for all three H100s."""


GPUS = (
    GpuType("RTX 3070", 8, "NVIDIA GeForce RTX 3070"),
    GpuType("RTX 3080", 10, "NVIDIA GeForce RTX 3080"),
    GpuType("RTX 3080 Ti", 12, "NVIDIA GeForce RTX 3080 Ti"),
    GpuType("RTX 3090", 24, "NVIDIA GeForce RTX 3090"),
    GpuType("RTX 3090 Ti", 24, "NVIDIA GeForce RTX 3090 Ti"),
    GpuType("RTX 4070 Ti", 12, "NVIDIA GeForce RTX 4070 Ti"),
    GpuType("RTX 4080", 16, "NVIDIA GeForce RTX 4080"),
    GpuType("RTX 4080 SUPER", 16, "NVIDIA GeForce RTX 4080 SUPER"),
    GpuType("RTX 4090", 24, "NVIDIA GeForce RTX 4090"),
    GpuType("RTX 5080", 16, "NVIDIA GeForce RTX 5080"),
    GpuType("RTX 5090", 32, "NVIDIA GeForce RTX 5090"),
    GpuType("RTX A2000", 6, "NVIDIA RTX A2000"),
    GpuType("RTX A4000", 16, "NVIDIA RTX A4000", family="A4000"),
    GpuType("RTX A4500", 20, "NVIDIA RTX A4500", family="A4500"),
    GpuType("RTX A5000", 24, "NVIDIA RTX A5000", family="A5000"),
    GpuType("RTX A6000", 48, "NVIDIA RTX A6000", family="A6000"),
    GpuType("RTX 2000 Ada", 16, "NVIDIA RTX 2000 Ada Generation"),
    GpuType("RTX 4000 Ada", 20, "NVIDIA RTX 4000 Ada Generation"),
    GpuType("RTX 5000 Ada", 32, "NVIDIA RTX 5000 Ada Generation"),
    GpuType("RTX 6000 Ada", 48, "NVIDIA RTX 6000 Ada Generation"),
    GpuType("RTX PRO 6000", 96, "NVIDIA RTX PRO 6000 Blackwell Server Edition", family="RTX PRO 6000"),
    GpuType("RTX PRO 6000 WK", 96, "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", family="RTX PRO 6000"),
    GpuType("T4", 16),
    GpuType("A10", 24),
    GpuType("A40", 48, "NVIDIA A40"),
    GpuType("L4", 24, "NVIDIA L4"),
    GpuType("L40", 48, "NVIDIA L40"),
    GpuType("L40S", 48, "NVIDIA L40S"),
    GpuType("A100 PCIe", 80, "NVIDIA A100 80GB PCIe", family="A100"),
    GpuType("A100 SXM", 80, "NVIDIA A100-SXM4-80GB", family="A100"),
    GpuType("H100 PCIe", 80, "NVIDIA H100 PCIe", family="H100"),
    GpuType("H100 SXM", 80, "NVIDIA H100 80GB HBM3", family="H100"),
    GpuType("H100 NVL", 94, "NVIDIA H100 NVL", family="H100"),
    GpuType("H200 SXM", 141, "NVIDIA H200"),
    GpuType("H200 NVL", 143, "NVIDIA H200 NVL"),
    GpuType("GH200", 96),
    GpuType("B200", 180, "NVIDIA B200"),
    GpuType("B300", 288, "NVIDIA B300 SXM6 AC"),
    GpuType("MI300X", 192, "AMD Instinct MI300X OAM"),
)


def has_memory(vram_gb: float | None, least: float | None) -> bool:
    """Tell whether a GPU holds what is needed; one whose memory is not told counts as large enough.

    Drivers report a few percent less than the maker states (a 32 GB card has 31.8).
    """
    return vram_gb is None or least is None or vram_gb >= 0.95 * least


def plain(text: str) -> str:
    """Return a name without case, punctuation and makers' words, so that spellings can be compared."""
    words = re.sub(r"[^a-z0-9]+", " ", text.lower()).split()
    return "".join(word for word in words if word not in _NOISE)


def find(text: str) -> tuple[GpuType, ...]:
    """Return the types a name stands for: one by any spelling, several by a family's word, none if unknown."""
    if not plain(text):
        return ()
    if as_written := tuple(gpu for gpu in GPUS if text == gpu.runpod):  # its plain word may be a family's
        return as_written
    key = plain(text)
    key = key.removesuffix("80gb") if key in ("a10080gb", "h10080gb") else key
    short = key.removeprefix("rtx")
    exact = tuple(gpu for gpu in GPUS if key in _spellings(gpu) or (short.isdigit() and plain(gpu.name) == "rtx" + short))
    family = tuple(gpu for gpu in GPUS if gpu.family and key == plain(gpu.family))
    return family or exact


def match(text: str, names: Iterable[tuple[str, ...]]) -> list[int]:
    """Return the indexes of the entries that a name stands for, in the order of the table.

    Each entry holds all names by which one cloud's catalog calls it; so types this table has never heard of are
    found by the catalog's own spelling.
    """
    entries = [{plain(name) for name in entry if name} for entry in names]
    hits = [index for gpu in find(text) for index, entry in enumerate(entries) if entry & _spellings(gpu)]
    hits += [index for index, entry in enumerate(entries) if plain(text) in entry]
    return list(dict.fromkeys(hits))


def suggestions(text: str, names: Iterable[str] = ()) -> list[str]:
    """Return up to three known names that look like the text."""
    known = {plain(name): name for name in (*(gpu.name for gpu in GPUS), *names)}
    return [known[hit] for hit in nearest(plain(text), known)]


def _spellings(gpu: GpuType) -> set[str]:
    return {plain(name) for name in (gpu.name, gpu.runpod) if name}
