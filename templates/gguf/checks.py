"""What is asked of a GGUF before it is called one: its header and tensors, its chat template, and what llama.cpp reckons with it."""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from typing import Any

import torch
from ending import sha256
from llamacpp import Loaded, converter_root, library_here
from models import Refused
from turns import turns_of

sys.path.insert(0, os.path.join(converter_root(), "gguf-py"))
import gguf

TEXTS = (
    "Where does engine 3 stand? It's at the north yard, isn't it?", "def f(x):\n\treturn [x ** 2,  x // 3]  # 1234567 and 3.14\n\n",
    "Größe, naïve café, Привет, 東京の天気, 🚂🛤️ …", "   three spaces, and\r\nlines\n\n\nWE'LL they'd I'M",
)  # fmt: skip
ALIKE = 0.98
"""Correlation of the logits below which a file in the model's own precision holds another model."""
MOST = 256
BLOCK = 256
"""Weights that a K-quant holds together: rows that it does not divide are held otherwise."""


def file(path: str, kind: str) -> dict[str, Any]:
    """Return size, sha256, tensors and types of a file whose header and tensors are whole; raises RuntimeError for others."""
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise RuntimeError(f"what was written is no GGUF: {error}") from None
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.ggml.")}
    size = os.path.getsize(path)
    if not reader.tensors or any(tensor.data_offset + tensor.n_bytes > size for tensor in reader.tensors):
        raise RuntimeError("what was written is no whole GGUF: a tensor lies beyond its end")
    if str(fields.get("general.type")) != kind or not fields.get("general.architecture"):
        raise RuntimeError(f"what was written calls itself {fields.get('general.type')}, not {kind}")
    types = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    return {
        "bytes": size, "sha256": sha256(path), "architecture": fields["general.architecture"], "tensors": len(reader.tensors),
        "types": dict(types.most_common()), "parameters": sum(int(tensor.n_elements) for tensor in reader.tensors),
    }  # fmt: skip


def template(path: str, tokenizer: Any) -> dict[str, Any]:
    """Return whether the file has a chat template; raises RuntimeError where it is not the tokenizer's."""
    fields = gguf.GGUFReader(path).fields
    held = fields["tokenizer.chat_template"].contents() if "tokenizer.chat_template" in fields else None
    if held != (tokenizer.chat_template or None):
        raise RuntimeError("the file does not have the model's chat template")
    return {"chat_template": held is not None}


def talk(folder: str, tokenizer: Any) -> dict[str, Any]:
    """Return how a conversation is written, and what ends an answer: the tokens of generation_config.json, and the tokenizer's own."""
    begins = tokenizer.bos_token is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    turns, why = turns_of(tokenizer, strip=tokenizer.bos_token if begins else "")
    path = os.path.join(folder, "generation_config.json")
    known: Any = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as said:
            known = json.load(said).get("eos_token_id")
    numbers = [*(known if isinstance(known, list) else [known]), tokenizer.eos_token_id]
    ends = [str(tokenizer.convert_ids_to_tokens(number)) for number in dict.fromkeys(numbers) if isinstance(number, int)]
    return {"turns": turns, "no_turns": why, "stops": ends}


def pairs(path: str, numbers: int) -> dict[str, Any]:
    """Return how many tensors of the base an adapter changes; raises RuntimeError where its file has not all of its numbers."""
    sizes = {tensor.name: int(tensor.n_elements) for tensor in gguf.GGUFReader(path).tensors}
    if set(sizes) != {f"{name.rsplit('.', 1)[0]}.{end}" for name in sizes for end in ("lora_a", "lora_b")} or sum(sizes.values()) < numbers:
        raise RuntimeError(f"the file does not have all of the adapter: {sum(sizes.values()):,} of {numbers:,} numbers")
    return {"changes": len(sizes) // 2}


def fallback(path: str, quant: str) -> list[str]:
    """Return what a K-quant holds otherwise, since its rows are no multiple of 256; told in the log, too."""
    if "_K" not in quant and not quant.endswith("_XS"):
        return []
    odd = [one for one in gguf.GGUFReader(path).tensors if one.tensor_type.name != "F32" and int(one.shape[0]) % BLOCK]
    found = [f"{tensor.name}: {tensor.tensor_type.name}" for tensor in odd]
    if found:
        print(f"gguf: {quant} needs rows that are a multiple of {BLOCK}; {len(found)} tensors are held otherwise: {found[0]}", flush=True)
    return found


def asked_of(model: Any, tokenizer: Any) -> tuple[list[int], list[float]]:
    """Return the tokens of a question, and what the model reckons after them."""
    if tokenizer.chat_template:
        question = [{"role": "user", "content": TEXTS[0]}]
        tokens = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True)["input_ids"]
    else:
        tokens = tokenizer(TEXTS[0])["input_ids"]
    tokens = list(tokens)[-MOST:]
    with torch.inference_mode():
        return tokens, model(input_ids=torch.tensor([tokens])).logits[0, -1].float().tolist()


def unlike(config: Any) -> str | None:
    """Return what llama.cpp is known to reckon otherwise than a model of this config does, told in the log, too; None for nothing."""
    if config.model_type != "qwen3_moe" or config.norm_topk_prob:
        return None
    why = "llama.cpp norms the weights of a Qwen3-MoE's chosen experts, which this model (norm_topk_prob: false) does not"
    print(f"gguf: {why}", flush=True)
    return why


def answers(plain: str, path: str, tokenizer: Any, asked: tuple[list[int], list[float]], *, assumed: bool) -> dict[str, Any]:
    """Return how what llama.cpp makes of the files is like the model; raises RuntimeError for another one.

    ``plain`` holds the model in its own precision, which must reckon as it does; the quantized one is measured.
    """
    if not library_here():
        print("gguf: no build of llama.cpp is there for this machine: that it loads the file was not tried", flush=True)
        return {"loaded": False}
    tokens, wanted = asked
    loaded = Loaded(plain)
    differ = [text for text in TEXTS if loaded.tokens(text) != tokenizer.encode(text, add_special_tokens=False)]
    likeness = alike(wanted, loaded.logits(tokens))
    loaded.close()
    if differ and assumed:
        raise Refused(f"the file reads text otherwise than the model was trained: {differ[0]!r}")
    if differ:
        print(f"gguf: {len(differ)} of {len(TEXTS)} texts are read otherwise than by the model's tokenizer: {differ[0]!r}", flush=True)
    if likeness[0] < ALIKE:
        raise RuntimeError(f"llama.cpp does not reckon with the file as the model does: its logits are alike by {likeness[0]:.3f}")
    if path != plain:
        loaded = Loaded(path)
        likeness = alike(wanted, loaded.logits(tokens))
        loaded.close()
    print(f"gguf: llama.cpp loads it; logits alike by {likeness[0]:.4f}, next token {'the same' if likeness[1] else 'another'}", flush=True)
    return {"loaded": True, "texts_read_otherwise": len(differ), "logits_alike": round(likeness[0], 5), "same_next_token": likeness[1]}


def alike(wanted: list[float], got: list[float]) -> tuple[float, bool]:
    """Return the correlation of two rows of logits, and whether the same is the likeliest; raises RuntimeError for no numbers."""
    ours, theirs = torch.tensor(wanted[: len(got)]), torch.tensor(got[: len(wanted)])
    if not all(map(math.isfinite, got)):
        raise RuntimeError("llama.cpp reckons no numbers with the file")
    stacked = torch.stack([ours, theirs]).double()
    return float(torch.corrcoef(stacked)[0, 1]), bool(ours.argmax() == theirs.argmax())
