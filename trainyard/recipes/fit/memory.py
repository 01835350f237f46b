"""GPU memory of a training, part by part, and the disk that it fills."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from trainyard.recipes.fit.shapes import Linear, ModelShape

GB = 1e9
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in 4 bits with double quantisation: half a byte, and a scale of a byte for 64, of 4 for 64 x 256."""
CONTEXT = 2 * GB
"""CUDA, its kernels and what the allocator cannot use: 1.4 to 2 GB were seen."""
_STATES = {"8bit": 2.0, "adafactor": 0.1}
"""Bytes of an optimizer's states for a trained parameter, by a word of its name; else 8."""

_LAST = ("down_proj", "fc2", "c_proj")
"""What an MLP ends with: its output is the hidden size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What of a training's settings memory depends on."""

    four_bit: bool
    full: bool
    pairs: bool
    """Preferences: each row is two, an answer that is liked and one that is not."""
    backend: str
    rank: int
    targets: tuple[str, ...]
    modules_to_save: int
    """Embedding and head that are trained whole."""
    optimizer: str
    batch: int
    length: int
    checkpointing: bool
    checkpoints: int
    """Kept on the disk."""
    merged: bool
    """The result holds the base with the adapter in its weights."""
    gpus: int = 1
    """That train."""
    sharing: str = ""
    """How each GPU holds but a part (fsdp, zero2, zero3); empty: it holds all."""
    offload: str = "none"
    """What main memory holds instead."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Method:
        """Return what the values of a run say, with what lora does where they do not."""
        targets, gpus = values.get("target_modules") or ["all-linear"], max(1, int(values.get("gpus") or 1))
        sharing = str(values.get("strategy")) if values.get("strategy") in ("fsdp", "zero2", "zero3") and gpus > 1 else ""
        return cls(
            four_bit=bool(values.get("load_in_4bit")), full=values.get("method") == "full",
            pairs=values.get("method") == "dpo", backend=str(values.get("backend") or ""), rank=int(values.get("lora_rank") or 8),
            targets=tuple(str(one) for one in ([targets] if isinstance(targets, str) else targets)),
            modules_to_save=len(values.get("modules_to_save") or ()), optimizer=str(values.get("optim") or "adamw_torch"),
            batch=int(values.get("per_device_train_batch_size") or 1), length=int(values.get("max_seq_length") or 2048),
            checkpointing=bool(values.get("gradient_checkpointing")), checkpoints=int(values.get("save_total_limit") or 1),
            merged=values.get("output") in ("merged", "both"), gpus=gpus, sharing=sharing,
            offload=str(values.get("offload") or "none") if sharing else "none",
        )  # fmt: skip

    @property
    def kind(self) -> str:
        """In words, what memory depends on beside sizes: of one kind and base, what one training took tells of another."""
        bits, kept = "4-bit" if self.four_bit else "16-bit", "checkpointing" if self.checkpointing else "all activations"
        what = "full" if self.full else "pairs" if self.pairs else "lora"
        many = f"{self.sharing or 'ddp'} x {self.gpus}" if self.gpus > 1 else ""
        aside = f"without {self.offload}" if self.offload != "none" else ""
        return " ".join(word for word in (what, self.backend, bits, self.optimizer, kept, many, aside) if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """Bytes of GPU memory, by what they are for."""

    weights: float
    adapter: float
    """What is trained, in 32 bits; 0 where it is the weights themselves."""
    gradients: float
    optimizer: float
    activations: float
    logits: float
    context: float = CONTEXT

    @property
    def total(self) -> float:
        """All of it."""
        return math.fsum(getattr(self, one.name) for one in fields(self))

    @property
    def allocated(self) -> float:
        """What the training's tensors take: all but CUDA's own."""
        return self.total - self.context


def trained(shape: ModelShape, method: Method) -> int:
    """Return how many parameters are trained, as PEFT counts them on transformers 5."""
    if method.full:
        return shape.total
    adapters = sum(method.rank * _width(one) * one.each * hits for one, hits in shape.adapted(list(method.targets)))
    return adapters + method.modules_to_save * shape.embedding


def memory(shape: ModelShape, method: Method) -> GpuMemory:
    """Return the GPU memory at the training's peak, on each GPU."""
    count, quantised = trained(shape, method), sum(one.weights for one in shape.linears) if method.four_bit else 0
    states = next((size for word, size in _STATES.items() if word in method.optimizer), 8.0)
    tokens = method.batch * method.length * (2 if method.pairs else 1)
    layer = _layer(shape, method)
    kept = 2.0 * shape.hidden * shape.layers + layer if method.checkpointing else layer * shape.layers
    part, zero = 1 / method.gpus if method.sharing else 1.0, method.sharing.startswith("zero")
    held = 0.0 if method.offload == "all" else 1.0 if method.sharing == "zero2" else part
    weights = quantised * NF4 + (4.0 if method.full and not zero else 2.0) * (shape.total - quantised)
    # What is shared out is put together again for a moment: a layer, the next one ahead of its turn, and the embedding or the head.
    whole = min(weights, 2 * weights / max(shape.layers, 1) + 2.0 * shape.embedding) if held < 1 else 0.0
    # DeepSpeed trains in 16 bits, and beside them has what its optimizer steps on in 32.
    master = 4.0 * count * part if zero and method.offload == "none" else 0.0
    # Beside its gradients each GPU has them once more, in the pieces that are sent.
    sent = 2.0 if method.gpus > 1 and not method.sharing else 1.0
    return GpuMemory(
        weights=weights * held + whole + (master if method.full else 0.0),
        # What is trained, an adapter and what is saved with it or all of it, is else in 32 bits, and so are its gradients.
        adapter=0.0 if method.full else 2.0 * count * held + master if zero else 4.0 * count * part,
        gradients=4.0 * count * part * sent, optimizer=states * count * part if method.offload == "none" else 0.0,
        activations=tokens * kept,
        # 16 bits, 32 bits and what their softmax leaves, all at once
        logits=10.0 * tokens * shape.vocabulary,
    )  # fmt: skip


def disk(shape: ModelShape, method: Method, *, downloaded: bool, environment_gb: int) -> int:
    """Return the GB of disk: the download, the checkpoints with their optimizer, the environment, and room."""
    fetched = 2.0 * shape.total * (downloaded + method.merged)
    saved = trained(shape, method) * 12.0 * (method.checkpoints + 1)
    return math.ceil((fetched + saved) / GB) + environment_gb + 3


def _width(one: Linear) -> int:
    """Return inputs and outputs of an adapter of rank 1."""
    # Gate and up of experts are one parameter, which is as wide as both and whose rank is doubled: for each of the two
    # halves, the doubled rank by the inputs once, and by both halves' outputs.
    return one.inputs + one.outputs * one.fused


def _layer(shape: ModelShape, method: Method) -> float:
    """Return the bytes that one layer keeps of a token for its gradient, in 16 bits but for the norms."""
    inner = sum(one.outputs * one.active * len(one.layers) for one in shape.linears if one.path.startswith("mlp") and not _is_last(one))
    norms = 2 * (4 + 2) * shape.hidden
    attention = 2 * (3 * shape.queries + 3 * shape.keys)
    return norms + attention + 2 * (2 * shape.hidden + 2 * inner / max(shape.layers, 1))


def _is_last(one: Linear) -> bool:
    return one.path.rpartition(".")[2] in _LAST
