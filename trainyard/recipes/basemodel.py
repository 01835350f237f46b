"""What is known of a base model before its weights are loaded: size, positions, layers. Travels in the bundle.

Standard library only, Python >= 3.10. A folder is read (config.json, the safetensors' list of weights); of a model
of the Hub only its name speaks on the controller, its config.json on the pod. What is not known is None, never a guess.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

TINY = "tiny-qwen3-moe"
FUSED = {"gate_up_proj": ("gate_proj", "up_proj")}
"""Parameters that hold several layers of older names; PEFT takes those names, too."""
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_GB = 1e9


class Base(NamedTuple):
    """What is known of a base."""

    name: str
    parameters: float | None
    source: str
    """Where the number of parameters is from."""
    config: Mapping[str, Any]
    layers: frozenset[str]
    """Names of its layers that have weights, empty when they are not known."""
    is_folder: bool


def look(name: str) -> Base:
    """Return what is known of a base: of a folder of this machine what its files say, else what its name says."""
    if not is_path(name):
        size = size_in(name)
        return Base(name, size, "its name" if size else "", {}, frozenset(), False)
    config = _json_file(os.path.join(name, "config.json"))
    weights = _weights(name)
    counted, source = sum(weights.values()) or counted_in(config), "its weights" if weights else "its config.json"
    if not counted:
        counted, source = size_in(os.path.basename(name.rstrip("/"))), "its name"
    layers = frozenset(key.rpartition(".")[0] for key in weights if key.endswith(".weight"))
    return Base(name, counted, source if counted else "", config, layers, True)


def is_path(name: str) -> bool:
    """Tell whether a base is meant as a folder, not as a model of the Hub (owner/name)."""
    return name.startswith(("/", "./", "../", "~")) or name in (".", "..") or name.count("/") > 1


def size_in(name: str) -> float | None:
    """Return the number of parameters that a name tells (8B, 0.6B, 135M, 8x7B); the active ones (A3B) do not count."""
    sizes = [float(many or 1) * float(size) * (1e9 if unit in "bB" else 1e6) for many, size, unit in _SIZE.findall(name)]
    return max(sizes, default=None)


def counted_in(config: Mapping[str, Any]) -> float | None:
    """Return the number of parameters that a config.json adds up to."""
    shape = _Shape.of(config)
    return shape.parameters if shape else None


def positions(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a base can tell apart, with the stretching its config asks for."""
    text = _text(config)
    known = next((text[key] for key in ("max_position_embeddings", "n_positions", "n_ctx") if isinstance(text.get(key), int)), None)
    if known is None:
        return None
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    factor = (
        rope.get("factor") if isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) in ("yarn", "linear", "dynamic") else 1
    )
    return int(known * max(1.0, float(factor or 1)))


def problem(config: Mapping[str, Any], layers: Collection[str], values: Mapping[str, Any], linear: Iterable[str] = ()) -> str | None:
    """Return why a base cannot be trained with these values, None when nothing speaks against it.

    ``layers`` are the names of its modules and parameters, empty when unknown; ``linear`` those that may be adapted.
    """
    most, asked = positions(config), values.get("max_seq_length")
    if most and isinstance(asked, int) and asked > most:
        return f"max_seq_length {asked} is more than the {most} positions of {values['base_model']}: set max_seq_length to {most} or less"
    targets = values.get("target_modules") or []
    if not layers or "all-linear" in targets:
        return None
    known = set(layers) | {new for name in layers for old in FUSED.get(last(name), ()) for new in (_sibling(name, old),)}
    missing = [target for target in targets if not any(_fits(target, name) for name in known)]
    if not missing:
        return None
    have = sorted({last(name) for name in (linear or known) if not last(name).isdigit()})
    return (
        f"target_modules: {values['base_model']} has no {', '.join(missing)}; "
        f"it has {', '.join(have[:24])}. Name some of these, or all-linear"
    )


def needs(base: Base, values: Mapping[str, Any]) -> dict[str, int]:
    """Return GPU memory and disk in GB that the training of an adapter needs.

    Measured against Qwen3-30B-A3B: 28 to 32 GB in 4 bits with all seven targets, 20 to 24 with attention alone,
    70 to 75 in bf16.
    """
    if base.name == TINY:
        return {"vram_gb": 0, "disk_gb": 8}
    if base.parameters is None:
        return {"vram_gb": 24, "disk_gb": 100}
    shape = _Shape.of(base.config) or _Shape.guessed(base)
    embedded = min(2 * shape.vocabulary * shape.hidden, 0.5 * base.parameters)
    weights = (base.parameters - embedded) * 0.5625 + embedded * 2 if values.get("load_in_4bit") else base.parameters * 2
    trained = shape.adapter(values)
    states = 10 if "8bit" in str(values.get("optim")) else 16
    tokens = int(values.get("max_seq_length") or 2048) * int(values.get("per_device_train_batch_size") or 1)
    layer = 34 * shape.hidden
    kept = 2 * shape.hidden * shape.layers + layer if values.get("gradient_checkpointing") else layer * shape.layers
    memory = weights + trained * states + tokens * (kept + 10 * shape.vocabulary) + 2 * _GB
    environment = 12 if values.get("device") == "gpu" else 2
    downloaded = 0.0 if base.is_folder else 2 * base.parameters
    saved = trained * 12 * (int(values.get("save_total_limit") or 1) + 1)
    return {"vram_gb": math.ceil(memory / _GB), "disk_gb": math.ceil((downloaded + saved) / _GB) + environment + 3}


def last(name: str) -> str:
    """Return the last part of a dotted name."""
    return name.rpartition(".")[2]


class _Shape(NamedTuple):
    """The sizes of a transformer that memory depends on."""

    hidden: int
    layers: int
    vocabulary: int
    attention: int
    """Inputs and outputs of q, k, v and o added up, in one layer."""
    mlp: int
    """The same of gate, up and down; of all experts."""
    parameters: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> _Shape | None:
        text = _text(config)
        try:
            hidden, layers, vocabulary = int(text["hidden_size"]), int(text["num_hidden_layers"]), int(text["vocab_size"])
            heads, inner = int(text["num_attention_heads"]), int(text["intermediate_size"])
        except (KeyError, TypeError, ValueError):
            return None
        groups = int(text.get("num_key_value_heads") or heads)
        width = int(text.get("head_dim") or hidden // heads)
        experts = int(text.get("num_experts") or text.get("num_local_experts") or text.get("n_routed_experts") or 1)
        inner = int(text.get("moe_intermediate_size") or inner) if experts > 1 else inner
        attention = 4 * hidden + 2 * width * (heads + groups)
        tables = 1 if text.get("tie_word_embeddings", config.get("tie_word_embeddings")) else 2
        inside = 2 * hidden * width * (heads + groups) + experts * 3 * hidden * inner
        return cls(hidden, layers, vocabulary, attention, 3 * experts * (hidden + inner), tables * vocabulary * hidden + layers * inside)

    @classmethod
    def guessed(cls, base: Base) -> _Shape:
        """Return the shape that models of this size have (fitted to Qwen3 0.6B to 235B-A22B, Llama 3, Mixtral)."""
        billions = (base.parameters or 0.0) / 1e9
        many, fine = re.search(r"(?<!\d)(\d+)x\d", base.name), re.search(r"moe|-a\d+(\.\d+)?b", base.name, re.IGNORECASE)
        experts = int(many[1]) if many else 1
        # Fine-grained experts are narrow: their layers are as wide as those of a dense model of a twentieth of the size.
        hidden = int(1750 * (billions / (20 if fine else experts)) ** 0.4)
        layers = int(24 * (billions / experts) ** 0.28) + 1
        mlp = int(1.8e6 * billions / layers) if fine else experts * 12 * hidden
        return cls(hidden, layers, 152_000, 7 * hidden, mlp, base.parameters or 0.0)

    def adapter(self, values: Mapping[str, Any]) -> float:
        """Return how many parameters are trained."""
        targets = [last(str(target)) for target in values.get("target_modules") or []]
        everything = not set(targets) <= {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
        attention = 1.0 if everything else sum(target in ("q_proj", "k_proj", "v_proj", "o_proj") for target in targets) / 4
        mlp = 1.0 if everything else sum(target in ("gate_proj", "up_proj", "down_proj") for target in targets) / 3
        whole = len(values.get("modules_to_save") or []) * self.vocabulary * self.hidden
        return int(values.get("lora_rank") or 8) * self.layers * (attention * self.attention + mlp * self.mlp) + whole


def _fits(target: str, name: str) -> bool:
    """Tell whether PEFT would adapt a layer for a target: its name, the end of its path, or a regular expression."""
    if name == target or name.endswith("." + target):
        return True
    try:
        return is_pattern(target) and re.fullmatch(target, name) is not None
    except re.error:
        return False


def is_pattern(target: str) -> bool:
    """Tell whether a target is a regular expression over the layers' whole names."""
    return bool(re.search(r"[*+?()\[\]|\\^$]", target))


def _sibling(name: str, other: str) -> str:
    return f"{name.rpartition('.')[0]}.{other}"


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def _json_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _weights(folder: str) -> dict[str, int]:
    """Return name -> number of elements of all weights of a folder, from the heads of its safetensors."""
    sizes: dict[str, int] = {}
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".safetensors") and "adapter" not in name)
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                head = json.loads(file.read(length)) if length < 1 << 28 else {}
            sizes |= {key: math.prod(item["shape"]) for key, item in head.items() if key != "__metadata__"}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, struct.error):
        return {}
    return sizes
