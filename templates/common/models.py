"""A model as a run has left it: whole, or an adapter on its base that fits it whole."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import huggingface_hub
import peft
import transformers

ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


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
        with _usable(ADAPTER):
            adapted = peft.PeftModel.from_pretrained(model, adapter)
    except RuntimeError as error:  # a size of the base's is another
        raise Refused(f"the adapter does not fit its base: {error}") from None
    own, there = set(peft.get_peft_model_state_dict(adapted)), set(peft.load_peft_weights(adapter, device="cpu"))
    if own != there:
        raise Refused(f"the adapter does not fit its base: {sorted(own ^ there)[0]} is in one of them only")
    return adapted.merge_and_unload(safe_merge=True)


def load(folder: str, base: str) -> tuple[Any, Any]:
    """Return the model of a folder, with its adapter in the weights where it holds one of ``base``, and its tokenizer.

    Raises Refused for an adapter that does not fit.
    """
    known, words = settings_of(folder), tokenizer_of(folder)
    model = base_of(folder, None) if known is None else with_adapter(base_of(place_of_base(folder, base), known.get("revision")), folder)
    if known is not None and os.path.exists(os.path.join(folder, "generation_config.json")):  # it names what ends an answer
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    return model, words


def load_base(folder: str, base: str) -> tuple[Any, Any]:
    """Return the base of a folder's adapter without it, and its tokenizer, with the template of the folder's where it has none."""
    known = settings_of(folder) or {}
    place, revision = place_of_base(folder, base), known.get("revision")
    # A base that was made for its training has the adapter's tokenizer.
    words = folder if place == os.path.join(folder, "base") else place
    tokenizer = transformers.AutoTokenizer.from_pretrained(words, **({} if os.path.isdir(words) else {"revision": revision}))
    if not tokenizer.chat_template:
        tokenizer.chat_template = tokenizer_of(folder).chat_template
    return base_of(place, revision), tokenizer


def settings_of(folder: str) -> dict[str, Any] | None:
    """Return the settings of a folder's adapter, None for a whole model; raises Refused for what is no LoRA with its weights."""
    if not os.path.exists(path := os.path.join(folder, ADAPTER)):
        return None
    with _usable(ADAPTER), open(path, encoding="utf-8") as file:
        known: dict[str, Any] = json.load(file)
        kind = known.get("peft_type")
    if kind != "LORA":
        raise Refused(f"{ADAPTER}: the adapter is of kind {kind}, and only one of LoRA can be put into its base")
    if not os.path.exists(os.path.join(folder, WEIGHTS)):
        raise Refused(f"the adapter lies there without its weights ({WEIGHTS})")
    return known


def tokenizer_of(folder: str) -> Any:
    """Return the tokenizer that lies beside a model; raises Refused where there is none that can be used."""
    with _usable("the tokenizer beside the model (tokenizer.json)"):
        return transformers.AutoTokenizer.from_pretrained(folder)


@contextlib.contextmanager
def _usable(what: str) -> Iterator[None]:
    """Turn whatever a library finds wrong with what lies there into one line."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise Refused(f"{what} cannot be used: {type(error).__name__}: {first}") from None


def place_of_base(folder: str, base: str) -> str:
    """Return where the base of a folder's adapter is: in the folder, where its run made it on the spot. The Hub is asked nothing then."""
    made = os.path.join(folder, "base")
    if not os.path.isdir(made):
        return base
    huggingface_hub.constants.HF_HUB_OFFLINE = True  # PEFT would look for the base's config there
    return made
