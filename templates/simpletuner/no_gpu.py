"""Lets SimpleTuner train where there is no GPU: torch then refuses to pin memory, which SimpleTuner asks for in any case.

Lies on the path of its processes under the name sitecustomize, on such a machine only; SimpleTuner itself stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class TensorPatch:
    """Makes Tensor.pin_memory give back its tensor, once torch is there."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find nothing; be there before SimpleTuner's trainer is."""
        if name == "simpletuner.helpers.training.trainer":
            sys.modules["torch"].Tensor.pin_memory = lambda tensor, *_, **__: tensor  # type: ignore[attr-defined]
            sys.meta_path.remove(self)
        return None


if "no_gpu" not in __name__:
    sys.meta_path.insert(0, TensorPatch())
