"""What a run has left, among the data: an adapter or a whole model, and the base that belongs to it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any

import huggingface_hub
import transformers
from ending import sha256
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from models import WEIGHTS, Refused, base_of, settings_of, tokenizer_of, with_adapter

LICENSE = "LICENSE"
# Of a base, all that says what it is and how it writes; SentencePiece's own file is what the converter reads of such models.
DESCRIBED = ("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json")


@dataclass(frozen=True)
class Source:
    """An adapter (with its base), or a whole model."""

    base: str
    """The Hub's name, or a folder."""
    revision: str | None
    adapter: str | None
    whole: str | None
    adapter_sha256: str | None


def look(data: str, named: str) -> Source:
    """Return what the data hold; raises Refused for several, none, and an adapter of another base."""
    places = {place: files for place, _, files in os.walk(data)}
    adapters = [place for place, files in places.items() if "adapter_config.json" in files]
    wholes = [
        place for place, files in places.items()
        if "config.json" in files and "adapter_config.json" not in files and any(name.endswith(".safetensors") for name in files)
        and not any(place == os.path.join(adapter, "base") for adapter in adapters)
    ]  # fmt: skip
    if len(adapters) > 1 or len(wholes) > 1 or not adapters + wholes:
        raise Refused(f"the data hold {len(adapters)} adapters and {len(wholes)} models: one adapter, or one model, is needed")
    whole = wholes[0] if wholes else None
    if not adapters:
        return Source(named, None, None, whole, None)
    adapter = adapters[0]
    known = settings_of(adapter) or {}
    made = os.path.join(adapter, "base")
    base = made if os.path.isdir(made) else named
    called = os.path.basename(named.rstrip("/")) if os.path.isdir(named) else named
    if base == named and called != known.get("base_model_name_or_path"):
        raise Refused(f"the adapter is one of {known.get('base_model_name_or_path')}, not of {called}")
    return Source(base, known.get("revision"), adapter, whole, sha256(os.path.join(adapter, WEIGHTS)))


def whole_model(source: Source, scratch: str) -> tuple[Any, str]:
    """Return the model in memory, an adapter in its weights, and a folder that holds it as the converter reads it."""
    if source.whole is not None:
        model, folder = base_of(source.whole, None), source.whole
        if not any(os.path.exists(os.path.join(folder, name)) for name in ("tokenizer.json", "tokenizer.model")):
            raise Refused("the model lies there without its tokenizer (tokenizer.json)")
    else:
        assert source.adapter is not None
        words = tokenizer_of(source.adapter)  # before the base, which may be large
        model, folder = with_adapter(base_of(source.base, source.revision), source.adapter), scratch
        model.save_pretrained(scratch, safe_serialization=True)
        words.save_pretrained(scratch)
        if os.path.exists(written := os.path.join(source.adapter, "generation_config.json")):
            shutil.copyfile(written, os.path.join(scratch, "generation_config.json"))
        brought(source, "tokenizer.model", scratch)
    brought(source, LICENSE, os.path.dirname(scratch))
    return model, folder


def described(source: Source, scratch: str) -> str:
    """Return a folder that says what the base is; its weights are not fetched."""
    if os.path.isdir(source.base):
        return source.base
    os.makedirs(scratch)
    for name in DESCRIBED:
        brought(source, name, scratch)
    if not os.path.exists(os.path.join(scratch, "config.json")):
        raise Refused(f"{source.base} has no config.json")
    brought(source, LICENSE, os.path.dirname(scratch))
    return scratch


def shape_of(base: str) -> dict[str, int]:
    """Return what a server can hold a base against, by llama.cpp's names."""
    config = transformers.AutoConfig.from_pretrained(base).get_text_config()
    return {"embedding_length": config.hidden_size, "block_count": config.num_hidden_layers}


def brought(source: Source, name: str, folder: str) -> None:
    """Copy a file of the base, where it has it, at the revision of the adapter."""
    if os.path.isdir(source.base):
        found = os.path.join(source.base, name)
        if not os.path.exists(found):
            return
    else:
        try:
            found = huggingface_hub.hf_hub_download(source.base, name, revision=source.revision)
        except EntryNotFoundError as error:
            # A Hub that does not answer says nothing of what it has; one that is not to be asked has what lies here.
            if isinstance(error, LocalEntryNotFoundError) and not huggingface_hub.constants.HF_HUB_OFFLINE:
                raise
            return
    shutil.copyfile(found, os.path.join(folder, name))
