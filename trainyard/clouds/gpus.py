"""GPU names in every spelling: people write ``H100`` or ``4090``, and each cloud has words of its own.

A name is read as its words (maker's words, ``gpu_8x_`` and sockets' numbers away) and the memory it states; what a cloud calls
a type in yet another way stands beside the type. No cloud has a column here: it finds its own ids in its own catalog by match().
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from trainyard.nearest import nearest

_NOISE = re.compile(r"nvidia|geforce|quadro|tesla|amd|instinct|generation|gpu|large|small|\d+x")
_SOCKET = re.compile(r"sxm\d?(gdr)?")
_MEMORY = re.compile(r"(\d+)\s*gb\b")


@dataclass(frozen=True, slots=True)
class GpuType:
    """One type of GPU; two that share ``name`` but for the memory are two types."""

    name: str
    vram_gb: int
    spellings: tuple[str, ...] = ()
    """What some cloud calls it, where that is not its name in another dress."""
    family: str = ""
    """The short word that also means this type, e.g. ``H100`` for all three H100s."""


GPUS = (
    GpuType("RTX 3060", 12),
    GpuType("RTX 3060 Ti", 8),
    GpuType("RTX 3070", 8),
    GpuType("RTX 3070 Ti", 8),
    GpuType("RTX 3080", 10),
    GpuType("RTX 3080 Ti", 12),
    GpuType("RTX 3090", 24),
    GpuType("RTX 3090 Ti", 24),
    GpuType("RTX 4060 Ti", 16),
    GpuType("RTX 4070", 12),
    GpuType("RTX 4070 Ti", 12),
    GpuType("RTX 4080", 16),
    GpuType("RTX 4080 SUPER", 16, ("RTX 4080S",)),
    GpuType("RTX 4090", 24),
    GpuType("RTX 5070 Ti", 16),
    GpuType("RTX 5080", 16),
    GpuType("RTX 5090", 32),
    GpuType("RTX A2000", 6),
    GpuType("RTX A4000", 16),
    GpuType("RTX A4500", 20),
    GpuType("RTX A5000", 24),
    GpuType("RTX A6000", 48),
    GpuType("RTX 4000", 8),
    GpuType("RTX 5000", 16),
    GpuType("RTX 6000", 24),
    GpuType("RTX 8000", 48),
    GpuType("RTX 2000 Ada", 16),
    GpuType("RTX 4000 Ada", 20, ("RTX 4000 SFF Ada",)),
    GpuType("RTX 5000 Ada", 32),
    GpuType("RTX 6000 Ada", 48),
    GpuType("RTX PRO 6000", 96, ("RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 S", "RTX_PRO_6000B"), "RTX PRO 6000"),
    GpuType("RTX PRO 6000 WK", 96, ("RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 WS", "RTX_PRO_6000B"), "RTX PRO 6000"),
    GpuType("P4", 8),
    GpuType("P40", 24),
    GpuType("P100", 16),
    GpuType("V100", 16, ("V100 SXM2", "V100 PCIe", "V100 FHHL"), family="V100"),
    GpuType("V100 32GB", 32, ("V100 SXM2", "V100 PCIe"), family="V100"),
    GpuType("T4", 16),
    GpuType("A10", 24, ("A10G", "A10 PCIe")),
    GpuType("A30", 24),
    GpuType("A40", 48),
    GpuType("L4", 24),
    GpuType("L40", 48),
    GpuType("L40S", 48),
    GpuType("A100 PCIe", 80, family="A100"),
    GpuType("A100 SXM", 80, family="A100"),
    GpuType("A100 PCIe 40GB", 40, family="A100"),
    GpuType("A100 SXM 40GB", 40, family="A100"),
    GpuType("H100 PCIe", 80, family="H100"),
    GpuType("H100 SXM", 80, ("H100 80GB HBM3",), family="H100"),
    GpuType("H100 NVL", 94, family="H100"),
    GpuType("H200 SXM", 141, ("H200",)),
    GpuType("H200 NVL", 143),
    GpuType("GH200", 96, ("GH200 480GB", "GH200 SXM"), family="GH200"),
    GpuType("GH200 144GB", 144, ("GH200 624GB",), family="GH200"),
    GpuType("B200", 180, ("B200 SXM6", "B200 192GB")),
    GpuType("B300", 288, ("B300 SXM6 AC", "B300 SXM6", "B300 262GB")),
    GpuType("GB200", 186, ("GB200 192GB",)),
    GpuType("GB300", 288),
    GpuType("MI300X", 192, ("MI300X OAM",)),
)  # fmt: skip
"""A family's types in the order in which they are preferred."""

TFLOPS: Mapping[str, float] = {
    "RTX 3090": 71, "RTX 4090": 165.2, "RTX 5090": 209.5, "RTX A6000": 154.8, "A10": 125, "A30": 165,
    "A40": 149.7, "L4": 121, "L40": 181, "L40S": 362, "A100 PCIe": 312, "A100 SXM": 312,
    "A100 PCIe 40GB": 312, "A100 SXM 40GB": 312, "H100 PCIe": 756, "H100 SXM": 989, "H100 NVL": 835, "H200 SXM": 989,
    "H200 NVL": 835, "GH200": 989, "GH200 144GB": 989, "B200": 2250, "MI300X": 1307,
}  # fmt: skip
"""Peak of dense matrix arithmetic in bf16, as the maker states it, by a type's name; of others it is not known here."""


@dataclass(frozen=True, slots=True)
class GpuWords:
    """A name taken apart: its words without case and punctuation, and the memory (GB) it states, 0 where it states none."""

    key: str
    memory: int


def has_memory(vram_gb: float | None, least: float | None) -> bool:
    """Tell whether a GPU holds what is needed; one whose memory is not told counts as large enough.

    Drivers report a few percent less than the maker states (a 32 GB card has 31.8).
    """
    return vram_gb is None or least is None or vram_gb >= 0.95 * least


@cache
def find(text: str) -> tuple[GpuType, ...]:
    """Return the types a name stands for: one by any spelling, several by a family's word, none if unknown.

    ``A100`` means the types of 80 and of 40 GB, ``A100 80GB`` those of 80: a name that states its memory means no other.
    """
    words = _words(text)
    if not words.key:
        return ()
    if words.memory and (as_spelled := tuple(gpu for gpu in GPUS if words in map(_words, gpu.spellings))):
        return as_spelled
    return tuple(gpu for gpu in GPUS if _bare(words.key) in _keys(gpu) and (not words.memory or _near(words.memory, gpu.vram_gb)))


@cache
def types_of(names: tuple[str, ...]) -> tuple[GpuType, ...]:
    """Return the types that one entry of a catalog may be, by all that it is called there: the more names, the fewer types."""
    meanings = [kinds for name in names if (kinds := find(name))]
    return tuple(gpu for gpu in meanings[0] if all(gpu in kinds for kinds in meanings)) if meanings else ()


def match(text: str, names: Iterable[tuple[str, ...]]) -> list[int]:
    """Return the indexes of the entries that a name stands for, in the order of the table.

    Each entry holds all names by which one cloud's catalog calls it, and may be told apart by more than the catalog's own:
    ``("A100 SXM4", "A100 40GB")``. An entry that may also be another type (``H100``, when ``H100 PCIe`` is asked) is none of them.
    Types this table has never heard of are found by the catalog's own spelling.
    """
    asked, own = find(text), _words(text)
    entries = list(names)
    kinds = [types_of(entry) for entry in entries]
    sure = [index for gpu in asked for index, some in enumerate(kinds) if gpu in some and all(kind in asked for kind in some)]
    spelled = [index for index, entry in enumerate(entries) if own.key and own in map(_words, entry)]
    return list(dict.fromkeys((*sure, *spelled)))


def stated_memory(text: str) -> int | None:
    """Return the memory (GB) that a name states, None where it states none."""
    return _words(text).memory or None


def suggestions(text: str, names: Iterable[str] = ()) -> list[str]:
    """Return up to three known names that look like the text."""
    known = {_words(name).key: name for name in (*(gpu.name for gpu in GPUS), *names)}
    return [known[hit] for hit in nearest(_words(text).key, known)]


@cache
def _words(text: str) -> GpuWords:
    low = text.lower().replace("_", " ")
    stated = _MEMORY.search(low)
    words = re.sub(r"[^a-z0-9]+", " ", _MEMORY.sub(" ", low)).split()
    kept = ("sxm" if _SOCKET.fullmatch(word) else word for word in words if not _NOISE.fullmatch(word))
    return GpuWords("".join(kept), int(stated[1]) if stated else 0)


@cache
def _keys(gpu: GpuType) -> frozenset[str]:
    return frozenset(_bare(_words(name).key) for name in (gpu.name, gpu.family, *gpu.spellings) if name)


def _bare(key: str) -> str:
    """Return a key as people shorten it: 4090, A6000."""
    return key.removeprefix("rtx")


def _near(stated: float, vram_gb: int) -> bool:
    return abs(stated - vram_gb) <= 0.1 * vram_gb
