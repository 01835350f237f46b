"""A base, and an adapter on it that fits it whole."""

from __future__ import annotations

import os
import sys
from typing import Any

import peft
import transformers


class Refused(Exception):
    """The adapter or its base are not what they must be: said in one line, without a traceback."""


def base_of(base: str, revision: str | None) -> Any:
    """Return the base in its own precision, of the very revision that the adapter was trained on where that is known."""
    if os.path.isdir(base) or revision is None:
        if not os.path.isdir(base):
            print("the adapter does not say at which revision of its base it was trained: the newest is taken", file=sys.stderr, flush=True)
        return transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto", device_map="cpu")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, revision=revision, dtype="auto", device_map="cpu")
    if (got := getattr(model.config, "_commit_hash", None)) != revision:
        raise Refused(f"the adapter was trained on {base} at revision {revision}, and what was loaded is {got or 'of unknown revision'}")
    return model


def with_adapter(model: Any, adapter: str) -> Any:
    """Return the base with the adapter in its weights; raises Refused for one that does not fit it whole."""
    try:
        adapted = peft.PeftModel.from_pretrained(model, adapter)
    except RuntimeError as error:  # a size of the base's is another
        raise Refused(f"the adapter does not fit its base: {error}") from None
    own, there = set(peft.get_peft_model_state_dict(adapted)), set(peft.load_peft_weights(adapter, device="cpu"))
    if own != there:
        raise Refused(f"the adapter does not fit its base: {sorted(own ^ there)[0]} is in one of them only")
    return adapted.merge_and_unload(safe_merge=True)
