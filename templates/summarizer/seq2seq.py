"""The encoder-decoder model of a run: its tokenizer, its weights, and the summaries that it writes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import basemodel
import tiny_bart
import torch
from session import refuse
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}


def precision(config: dict[str, Any], device: str) -> str:
    """Return bf16, fp16 or no: what is reckoned in; the weights themselves are held in 32 bits."""
    asked: str = config["mixed_precision"]
    if asked == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        refuse("mixed_precision bf16 is asked for, but this GPU has no bf16: set it to auto, or to fp16 for a BART")
    if asked == "fp16" and device == "cpu":
        refuse("mixed_precision fp16 is asked for, but a CPU trains in bf16 or 32 bits: set it to auto")
    if asked == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "no"
    return asked


def tokenizer_of(config: dict[str, Any], texts: Iterator[str]) -> Any:
    """Return the base's tokenizer; that of the tiny model is made from the texts."""
    if config["base_model"] == tiny_bart.NAME:
        return tiny_bart.tokenizer_for(texts)
    return AutoTokenizer.from_pretrained(config["base_model"])


def check(config: dict[str, Any]) -> None:
    """Raise Refused for a base that cannot be trained with these settings: told before its weights are fetched."""
    if config["base_model"] != tiny_bart.NAME:
        refuse(basemodel.problem(AutoConfig.from_pretrained(config["base_model"]).to_dict(), (), config))


def load(config: dict[str, Any], tokenizer: Any) -> Any:
    """Return the base with its weights in 32 bits, and the settings by which it writes summaries."""
    base = config["base_model"]
    if base == tiny_bart.NAME:
        model = tiny_bart.model_for(tokenizer, config["seed"], max(config["max_source_length"], config["max_target_length"]))
    else:
        model = AutoModelForSeq2SeqLM.from_pretrained(base, dtype=torch.float32)
    known = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=known.bos_token_id, eos_token_id=known.eos_token_id, pad_token_id=known.pad_token_id,
        decoder_start_token_id=known.decoder_start_token_id, forced_bos_token_id=known.forced_bos_token_id,
        num_beams=config["num_beams"], length_penalty=config["length_penalty"], no_repeat_ngram_size=config["no_repeat_ngram_size"],
        min_length=config["min_target_length"], max_new_tokens=config["max_target_length"], early_stopping=config["num_beams"] > 1,
    )  # fmt: skip
    return model


def take_checkpoint(model: Any, folder: str) -> None:
    """Give a model the weights of a checkpoint."""
    model.load_state_dict(AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).state_dict())


def fingerprint(config: dict[str, Any], tokenizer: Any, model: Any) -> dict[str, Any]:
    """Return what tells this base from another of the same name."""
    kept: dict[str, Any] = {"vocabulary": len(tokenizer), "parameters": sum(each.numel() for each in model.parameters())}
    if config["base_model"] == tiny_bart.NAME:
        digest = hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
        for parameter in model.parameters():
            digest.update(parameter.detach().cpu().numpy().tobytes())
        kept["base"] = digest.hexdigest()
    return kept


def autocast(device: str, how: str) -> contextlib.AbstractContextManager[Any]:
    """Return the precision of a piece of work."""
    return contextlib.nullcontext() if how == "no" else torch.autocast(device, dtype=_DTYPES[how])


def summaries(
    model: Any, tokenizer: Any, texts: Sequence[str], config: dict[str, Any], how: str, go_on: Callable[[], bool]
) -> Iterator[tuple[int, str]]:
    """Yield (number of a text, the summary that the model writes of it), the longest first, while ``go_on`` says so."""
    order = sorted(range(len(texts)), key=lambda number: (-len(texts[number]), number))
    size = config["per_device_train_batch_size"]
    model.eval()
    for at in range(0, len(order), size):
        if not go_on():
            return
        numbers = order[at : at + size]
        words = tokenizer(
            [(config["source_prefix"] or "") + texts[number] for number in numbers],
            truncation=True, max_length=config["max_source_length"], padding=True, return_tensors="pt",
        ).to(model.device)  # fmt: skip
        with torch.no_grad(), autocast(model.device.type, how):
            said = model.generate(input_ids=words["input_ids"], attention_mask=words["attention_mask"])
        yield from zip(numbers, (text.strip() for text in tokenizer.batch_decode(said, skip_special_tokens=True)), strict=True)


def called(base: str) -> str:
    """Return a base as a person would call it: never by a path of this pod."""
    return base.rstrip("/").rpartition("/")[2] if basemodel.is_path(base) else base
