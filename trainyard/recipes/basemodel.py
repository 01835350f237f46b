"""What a base's name, its config.json and the names of its layers say of a training. Travels in the bundle.

Standard library only, Python >= 3.10. What is not known is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

TINY = "tiny-qwen3-moe"
MADE = (TINY, "tiny-bart", "tiny-sdxl")
"""Bases that a recipe makes on the spot: they are on no hub, and in no folder."""
FUSED = {"gate_up_proj": ("gate_proj", "up_proj")}
"""Parameters that hold several layers of older names; PEFT takes those names, too."""
AUTO, ATTENTION = "auto", "attention"
"""Targets that stand for layers of many names: those of attention and MLP, and those of attention alone."""
_ATTENTION = (
    "q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv", "out_proj", "c_proj", "dense", "query", "key",
    "value", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "in_proj_qkv", "wq", "wk", "wv", "wo",
)  # fmt: skip
_MLP = (
    "gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "fc_in", "fc_out", "c_fc", "c_proj", "dense_h_to_4h",
    "dense_4h_to_h", "w1", "w2", "w3",
)  # fmt: skip
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)


def is_path(name: str) -> bool:
    """Tell whether a base is meant as a folder, not as a model of the Hub (owner/name)."""
    return name.startswith(("/", "./", "../", "~")) or name in (".", "..") or name.count("/") > 1


def size_in(name: str) -> float | None:
    """Return the number of parameters that a name tells (8B, 0.6B, 135M, 8x7B); the active ones (A3B) do not count."""
    sizes = [float(many or 1) * float(size) * (1e9 if unit in "bB" else 1e6) for many, size, unit in _SIZE.findall(name)]
    return max(sizes, default=None)


def positions(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a base can tell apart, with the stretching its config asks for."""
    text = text_of(config)
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
    if wrong := _unlike(config, values):
        return wrong
    most, asked = positions(config), values.get("max_seq_length")
    if most and isinstance(asked, int) and asked > most:
        return f"max_seq_length {asked} is more than the {most} positions of {values['base_model']}: set max_seq_length to {most} or less"
    targets = values.get("target_modules") or []
    if not layers or not targets or "all-linear" in targets or values.get("method") == "full":
        return None
    if not (targets := adapted(targets, layers)):
        return f"target_modules: no layer of {values['base_model']} has a name that auto and attention know: name them, or all-linear"
    known = set(layers) | {new for name in layers for old in FUSED.get(last(name), ()) for new in (_sibling(name, old),)}
    missing = [target for target in targets if not any(fits(target, name) for name in known)]
    if not missing:
        return None
    have = sorted({last(name) for name in (linear or known) if not last(name).isdigit()})
    return (
        f"target_modules: {values['base_model']} has no {', '.join(missing)}; "
        f"it has {', '.join(have[:24])}. Name some of these, or all-linear"
    )


def _unlike(config: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """Return why a base is none of the kind that a recipe trains: decoders, or encoder-decoders of texts and summaries."""
    base, pairs = values.get("base_model"), "max_source_length" in values
    is_pair = config.get("is_encoder_decoder", str(config.get("model_type")) in ("t5", "mt5", "umt5", "longt5")) is True
    if not config.get("model_type") or is_pair == pairs:
        return _beyond(config, values) if pairs else None
    if pairs:
        return f"base_model {base} is no encoder-decoder (its type is {config['model_type']}): recipe lora trains models of that kind"
    return f"base_model {base} is an encoder-decoder (its type is {config['model_type']}): recipe summarizer trains models of that kind"


def _beyond(config: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    for variable, side in (("max_source_length", "encoder"), ("max_target_length", "decoder")):
        names = (f"max_{side}_position_embeddings", "max_position_embeddings")
        most = next((config[name] for name in names if isinstance(config.get(name), int)), None)
        if most and values[variable] > most:
            return f"{variable} {values[variable]} is more than the {most} positions of {values['base_model']}: set it to {most} or less"
    return None


def adapted(targets: Collection[str], layers: Iterable[str]) -> list[str]:
    """Return the target modules with what ``auto`` and ``attention`` stand for in a base of these layers."""
    chosen: list[str] = []
    names = list(layers)
    for target in targets:
        of_attention = [name for name in names if last(name) in _ATTENTION and re.search("attn|attention", name, re.IGNORECASE)]
        of_mlp = [name for name in names if last(name) in _MLP and name not in of_attention]
        if target == ATTENTION:
            # A name that both have (c_proj of GPT-2) is said with the part before it.
            both = {last(name) for name in of_mlp}
            chosen += sorted({name.split(".", name.count(".") - 1)[-1] if last(name) in both else last(name) for name in of_attention})
        elif target == AUTO:
            mlp = {old for name in of_mlp for old in FUSED.get(last(name), (last(name),))}
            chosen += sorted({last(name) for name in of_attention} | mlp)
        else:
            chosen.append(target)
    return list(dict.fromkeys(chosen))


def last(name: str) -> str:
    """Return the last part of a dotted name."""
    return name.rpartition(".")[2]


def fits(target: str, name: str) -> bool:
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


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config.json that is about text: of a model that also sees or hears a part of it, else all."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config
