"""What is known of a base on this machine: from its folder, from the Hub where it was asked, else from its name alone."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard import jsontext
from trainyard.recipes import basemodel
from trainyard.recipes.basemodel import MADE
from trainyard.recipes.fit import memory
from trainyard.recipes.fit.memory import Method
from trainyard.recipes.fit.shapes import ModelShape, guessed, shape_of

_LARGEST_HEAD = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What is known of a base."""

    name: str
    parameters: float | None
    source: str
    """Where the number of parameters is from."""
    config: Mapping[str, Any]
    layers: frozenset[str] = frozenset()
    """Names of its layers that have weights, empty when they are not known."""
    is_folder: bool = False

    @property
    def shape(self) -> ModelShape | None:
        """Its sizes: as its config.json tells, else as models of its size have them; None: not even its size is known."""
        config_shape = shape_of(self.config)
        return config_shape or (guessed(self.name, self.parameters) if self.parameters else None)


@dataclass(frozen=True, slots=True)
class MemoryFactor:
    """By how much trainings took more memory than was reckoned, and how many finished runs tell it."""

    factor: float
    runs: int


_TOLD: dict[str, Base] = {}
_MEASURED: dict[tuple[str, str], MemoryFactor] = {}


def remember(base: Base) -> None:
    """Let look() return, in this process, what somebody else has told of a base."""
    _TOLD[base.name] = base


def learn(base: str, kind: str, factor: MemoryFactor) -> None:
    """Let needs() reckon, in this process, with what trainings of a base and a kind have taken."""
    _MEASURED[base, kind] = factor


def factor_of(base: str, values: Mapping[str, Any]) -> MemoryFactor | None:
    """Return what finished runs tell of a training's memory; None: nothing is known."""
    return _MEASURED.get((base, Method.of(values).kind))


def look(name: str) -> Base:
    """Return what is known of a base: of a folder of this machine what its files say, else what was told, else what its name says."""
    if not basemodel.is_path(name):
        return _TOLD.get(name) or by_name(name)
    folder = Path(name)
    config = _config(folder / "config.json")
    weights, shape = _weights(folder), shape_of(config)
    counted: float | None = sum(weights.values()) or (shape.total if shape else None)
    source = "its weights" if weights else "its config.json"
    if not counted:
        counted, source = basemodel.size_in(folder.name), "its name"
    layers = frozenset(key.rpartition(".")[0] for key in weights if key.endswith(".weight"))
    if not layers and shape is not None and shape.exact:
        layers = shape.layer_names()
    return Base(name=name, parameters=counted, source=source if counted else "", config=config, layers=layers, is_folder=True)


def by_name(name: str) -> Base:
    """Return what the name of a base says of it."""
    size = basemodel.size_in(name)
    return Base(name=name, parameters=size, source="its name" if size else "", config={})


def needs(base: Base, values: Mapping[str, Any]) -> dict[str, int]:
    """Return the GB of GPU memory and of disk that a training of a base needs."""
    if base.name in MADE:
        return {"vram_gb": 0, "disk_gb": 8}
    shape = base.shape
    if shape is None:
        return {"vram_gb": 24, "disk_gb": 100}
    method = Method.of(values)
    environment = 12 if values.get("device") == "gpu" else 2
    room = memory.disk(shape, method, downloaded=not base.is_folder, environment_gb=environment)
    needed, measured = memory.memory(shape, method), factor_of(base.name, values)
    total = needed.context + needed.allocated * (measured.factor if measured else 1.0)
    return {"vram_gb": math.ceil(total / memory.GB), "disk_gb": room}


def _config(path: Path) -> dict[str, Any]:
    try:
        content = jsontext.parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _weights(folder: Path) -> dict[str, int]:
    """Return name -> number of elements of all weights of a folder, from the heads of its safetensors."""
    sizes: dict[str, int] = {}
    try:
        for name in sorted(name for name in os.listdir(folder) if name.endswith(".safetensors") and "adapter" not in name):
            with (folder / name).open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                head = jsontext.parse_json(file.read(length)) if length < _LARGEST_HEAD else {}
            sizes |= {key: math.prod(item["shape"]) for key, item in head.items() if key != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return {}
    return sizes
