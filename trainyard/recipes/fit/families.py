"""How the weights of each kind of transformer follow from its config.json, as data: one row a family of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

Says = bool | str
"""Yes, no, or the key of config.json that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What config.json leaves to the code of its family."""

    attention_bias: Says = "attention_bias"
    """Of q, k and v."""
    output_bias: Says = "attention_bias"
    mlp_bias: Says = "mlp_bias"
    gated: bool = True
    """Its MLP has a gate beside up and down."""
    norms: int = 2
    """Of its hidden size, in each layer."""
    norm_bias: bool = False
    head_norm: str = ""
    """Norms of q and k: ``head`` of one head's width, ``whole`` of all heads' together."""
    tied: bool = False
    """Embedding and head are one where config.json does not say."""
    head_bias: bool = False
    head_width: int | None = None
    """Where config.json has no head_dim; None: hidden size by heads."""
    names: Mapping[str, str] | None = None
    """What its layers are called in place of q_proj, k_proj ...; several that share a name are one fused layer."""
    sinks: bool = False
    """A learnt value for each head beside the scores."""
    expert_bias: bool = False
    shared_gate: bool = False
    """The shared expert has a gate of its own."""
    router_correction: bool = False


LLAMA = Family()
_FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
_PLAIN = replace(LLAMA, attention_bias=False, output_bias=False, mlp_bias=False)
_GEMMA = Family(mlp_bias=False, tied=True, head_width=256)
FAMILIES: Mapping[str, Family] = {
    "llama": LLAMA,
    "granite": LLAMA,
    "smollm3": replace(LLAMA, tied=True),
    "mistral": _PLAIN,
    "ministral": _PLAIN,
    "mixtral": _PLAIN,
    "qwen2": replace(_PLAIN, attention_bias=True),
    "qwen2_moe": replace(_PLAIN, attention_bias=True, shared_gate=True),
    "qwen3": Family(mlp_bias=False, head_norm="head", head_width=128),
    "qwen3_moe": Family(mlp_bias=False, head_norm="head", head_width=None),
    "olmo2": Family(mlp_bias=False, head_norm="whole"),
    "olmoe": Family(mlp_bias=False, head_norm="whole"),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms=4),
    "gemma3_text": replace(_GEMMA, norms=4, head_norm="head"),
    "phi": Family(
        attention_bias=True, output_bias=True, mlp_bias=True, gated=False, norms=1, norm_bias=True, head_bias=True,
        names={"o_proj": "dense", "up_proj": "fc1", "down_proj": "fc2"},
    ),
    "phi3": replace(_PLAIN, names=_FUSED),
    "starcoder2": Family(
        attention_bias="use_bias", output_bias="use_bias", mlp_bias="use_bias", gated=False, norm_bias=True, tied=True,
        names={"up_proj": "c_fc", "down_proj": "c_proj"},
    ),
    "gpt_oss": Family(sinks=True, expert_bias=True, head_width=64, mlp_bias=False),
    "deepseek_v3": replace(_PLAIN, router_correction=True),
    "deepseek_v2": _PLAIN,
}  # fmt: skip
"""By model_type. A base of another type is reckoned as LLAMA, and said to be so."""
