"""A transformer's weights, layer by layer, from its config.json alone: exact for the families of families.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.recipes import basemodel
from trainyard.recipes.fit.families import FAMILIES, LLAMA, Family, Says

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EXPERTS = "mlp.experts"


@dataclass(frozen=True, slots=True)
class Linear:
    """One kind of linear layer, and how often it is there."""

    path: str
    """Inside of its layer: ``self_attn.q_proj``."""
    inputs: int
    outputs: int
    layers: tuple[int, ...]
    """Numbers of the layers that have it."""
    each: int = 1
    """How many of it a layer has: its experts."""
    active: int = 1
    """How many of these a token goes through."""
    bias: bool = False
    fused: int = 1
    """Of so many of these transformers makes one parameter (gate and up of experts); PEFT raises its rank by as much."""

    @property
    def weights(self) -> int:
        """Elements of all of them, without biases."""
        return self.inputs * self.outputs * self.each * len(self.layers)

    @property
    def biases(self) -> int:
        """Elements of all their biases."""
        return self.outputs * self.each * len(self.layers) if self.bias else 0

    @property
    def is_expert(self) -> bool:
        """Tell whether it is one of several that a token is sent to."""
        return self.path.startswith(EXPERTS)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a transformer that memory and time depend on."""

    family: str
    hidden: int
    layers: int
    vocabulary: int
    queries: int
    """Width of q, all heads together."""
    keys: int
    """Width of k, and of v."""
    linears: tuple[Linear, ...]
    embedding: int
    head: int
    """Elements of the head's weights; 0 where they are the embedding's."""
    other: int
    """Norms, routers, sinks and the like."""
    exact: bool
    """Its family is known; else it was reckoned as a Llama, or from its size alone."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.head + self.other + sum(one.weights + one.biases for one in self.linears)

    @property
    def experts(self) -> int:
        """Parameters of its experts."""
        return sum(one.weights + one.biases for one in self.linears if one.is_expert)

    @property
    def attention(self) -> int:
        """Weights of its attention."""
        return sum(one.weights for one in self.linears if one.path.startswith("self_attn"))

    @property
    def active(self) -> int:
        """Parameters that a token meets, the embedding counted as a whole."""
        return self.total - sum((one.weights + one.biases) * (one.each - one.active) // one.each for one in self.linears)

    def layer_names(self) -> frozenset[str]:
        """Return the names of what an adapter can be named for; of experts and routers also those of other versions."""
        paths = {(number, one.path) for one in self.linears for number in one.layers}
        paths |= {(number, path.rpartition(".")[0] + ".gate_up_proj") for number, path in paths if path.startswith(EXPERTS)}
        paths |= {(number, name) for number, path in paths if path.startswith(EXPERTS) for name in _ROUTERS}
        return frozenset({"model.embed_tokens", "lm_head", *(f"model.layers.{number}.{path}" for number, path in paths)})

    def adapted(self, targets: list[str]) -> Iterator[tuple[Linear, int]]:
        """Yield the linear layers that PEFT would adapt for these targets, and in how many layers."""
        every = not {"all-linear", "auto"}.isdisjoint(targets)
        names = [name for target in targets for name in (ATTENTION if target == "attention" else (target,))]
        for one in self.linears:
            if every:
                yield one, len(one.layers)
            elif hits := sum(any(_hits(name, f"model.layers.{number}.{one.path}") for name in names) for number in one.layers):
                yield one, hits


_ROUTERS = ("mlp.gate", "mlp.router", "mlp.shared_expert_gate")


def shape_of(config: Mapping[str, Any]) -> ModelShape | None:
    """Return the shape that a config.json tells; None where it lacks what every transformer's has."""
    text = _text(config)
    try:
        return _ConfigReader(text, _family(text)).shape()
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def guessed(name: str, parameters: float) -> ModelShape:
    """Return the shape that models of this size have (fitted to Qwen3 0.6B to 235B-A22B, Llama 3, Mixtral)."""
    billions = parameters / 1e9
    many, fine = re.search(r"(?<!\d)(\d+)x\d", name), re.search(r"moe|-a(\d+(?:\.\d+)?)b", name, re.IGNORECASE)
    experts = int(many[1]) if many else 128 if fine else 1
    # Fine-grained experts are narrow: their layers are as wide as those of a dense model of a twentieth of the size.
    hidden = max(64, int(1750 * (billions / (20 if fine else experts)) ** 0.4) // 64 * 64)
    layers = int(24 * (billions / (1 if fine else experts)) ** 0.28) + 1
    vocabulary = min(152_000, max(1000, int(parameters / 4 / hidden)))
    left = max(parameters - 2 * vocabulary * hidden, parameters / 2) / layers
    attention = min(int(2.5 * hidden * hidden), int(left / 2))
    inner = max(1, int((left - attention) / (3 * hidden * experts)))
    active = max(1, round(float(fine[1]) / billions * experts)) if fine and fine[1] else min(experts, 8 if fine else 2)
    width = max(1, attention // (2 * hidden) * 4 // 5)
    config: dict[str, Any] = {
        "hidden_size": hidden, "num_hidden_layers": layers, "vocab_size": vocabulary, "num_attention_heads": 4, "num_key_value_heads": 1,
        "head_dim": max(1, width // 4), "intermediate_size": inner,
    }  # fmt: skip
    if experts > 1:
        config |= {"num_experts": experts, "num_experts_per_tok": active, "moe_intermediate_size": inner}
    return _ConfigReader(config, LLAMA).shape(exact=False)


def _family(text: Mapping[str, Any]) -> Family | None:
    return FAMILIES.get(str(text.get("model_type")))


@dataclass(frozen=True, slots=True)
class _ConfigReader:
    """A config.json, read by its family's row."""

    text: Mapping[str, Any]
    known: Family | None

    @property
    def family(self) -> Family:
        return self.known or LLAMA

    def shape(self, *, exact: bool = True) -> ModelShape:
        hidden, layers, vocabulary = (self.whole(key) for key in ("hidden_size", "num_hidden_layers", "vocab_size"))
        linears = tuple(_fused(self.family, [*self.attention(), *self.mlp()]))
        tied = self.text.get("tie_word_embeddings", self.family.tied)
        head = 0 if tied else vocabulary * hidden
        other = layers * self.norms() + hidden * (2 if self.family.norm_bias else 1) + self.routers()
        other += vocabulary if self.family.head_bias else 0
        heads, groups, width = self.heads()
        return ModelShape(
            family=str(self.text.get("model_type") or "unknown"), hidden=hidden, layers=layers, vocabulary=vocabulary,
            queries=heads * width, keys=groups * width, linears=linears, embedding=vocabulary * hidden, head=head, other=other,
            exact=exact and self.known is not None,
        )  # fmt: skip

    def heads(self) -> tuple[int, int, int]:
        heads = self.whole("num_attention_heads")
        groups = self.whole("num_key_value_heads", heads)
        return heads, groups, self.whole("head_dim", self.family.head_width or self.whole("hidden_size") // heads)

    def attention(self) -> Iterator[Linear]:
        hidden, every = self.whole("hidden_size"), tuple(range(self.whole("num_hidden_layers")))
        heads, groups, width = self.heads()
        bias, output_bias = self.says(self.family.attention_bias), self.says(self.family.output_bias)
        if "kv_lora_rank" in self.text:
            yield from self.latent_attention(every)
            return
        yield Linear("self_attn.q_proj", hidden, heads * width, every, bias=bias)
        yield Linear("self_attn.k_proj", hidden, groups * width, every, bias=bias)
        yield Linear("self_attn.v_proj", hidden, groups * width, every, bias=bias)
        yield Linear("self_attn.o_proj", heads * width, hidden, every, bias=output_bias)

    def latent_attention(self, every: tuple[int, ...]) -> Iterator[Linear]:
        """DeepSeek's: keys and values of all heads come from one narrow row."""
        hidden, heads = self.whole("hidden_size"), self.whole("num_attention_heads")
        rank, rope, plain, value = (self.whole(key) for key in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
        queries, width = self.whole("q_lora_rank", 0), plain + rope
        if queries:
            yield Linear("self_attn.q_a_proj", hidden, queries, every)
            yield Linear("self_attn.q_b_proj", queries, heads * width, every)
        else:
            yield Linear("self_attn.q_proj", hidden, heads * width, every)
        yield Linear("self_attn.kv_a_proj_with_mqa", hidden, rank + rope, every)
        yield Linear("self_attn.kv_b_proj", rank, heads * (plain + value), every)
        yield Linear("self_attn.o_proj", heads * value, hidden, every)

    def mlp(self) -> Iterator[Linear]:
        hidden, every = self.whole("hidden_size"), tuple(range(self.whole("num_hidden_layers")))
        sparse = tuple(number for number in every if self.is_sparse(number))
        dense = tuple(number for number in every if number not in sparse)
        bias = self.says(self.family.mlp_bias)
        if dense:
            yield from _mlp("mlp", hidden, self.whole("intermediate_size"), dense, gated=self.family.gated, bias=bias)
        if sparse:
            inner = self.whole("moe_intermediate_size", self.whole("intermediate_size", 0))
            active = self.whole("num_experts_per_tok", self.whole("experts_per_token", 1))
            for one in _mlp(EXPERTS, hidden, inner, sparse, gated=True, bias=self.family.expert_bias):
                fused = 1 if one.path.endswith("down_proj") else 2
                yield Linear(one.path, one.inputs, one.outputs, sparse, self.experts(), active, one.bias, fused)
            shared = self.whole("shared_expert_intermediate_size", self.whole("n_shared_experts", 0) * inner)
            if shared:
                yield from _mlp("mlp.shared_expert", hidden, shared, sparse, gated=True, bias=False)

    def experts(self) -> int:
        return next((self.whole(key) for key in ("num_experts", "num_local_experts", "n_routed_experts") if self.text.get(key)), 0)

    def is_sparse(self, number: int) -> bool:
        """Tell whether a layer has experts."""
        if not self.experts() or number in (self.text.get("mlp_only_layers") or ()):
            return False
        if number < self.whole("first_k_dense_replace", 0):
            return False
        return (number + 1) % max(1, self.whole("decoder_sparse_step", 1)) == 0

    def routers(self) -> int:
        count = sum(self.is_sparse(number) for number in range(self.whole("num_hidden_layers")))
        each = self.experts() * (self.whole("hidden_size") + self.family.expert_bias)
        return count * (each + (self.whole("hidden_size") if self.family.shared_gate else 0))

    def norms(self) -> int:
        """Return the elements of one layer's norms and sinks."""
        heads, groups, width = self.heads()
        plain = self.family.norms * self.whole("hidden_size") * (2 if self.family.norm_bias else 1)
        of_heads = {"head": 2 * width, "whole": (heads + groups) * width}.get(self.family.head_norm, 0)
        latent = self.whole("kv_lora_rank", 0) + self.whole("q_lora_rank", 0)
        return plain + of_heads + latent + (heads if self.family.sinks else 0)

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.text.get(key)
        if value is None:
            if default is None:
                raise KeyError(key)
            return default
        if isinstance(value, bool) or int(value) < 0:
            raise ValueError(key)
        return int(value)

    def says(self, what: Says) -> bool:
        return what if isinstance(what, bool) else bool(self.text.get(what))


def _mlp(path: str, hidden: int, inner: int, layers: tuple[int, ...], *, gated: bool, bias: bool) -> Iterator[Linear]:
    for name in ("gate_proj", "up_proj") if gated else ("up_proj",):
        yield Linear(f"{path}.{name}", hidden, inner, layers, bias=bias)
    yield Linear(f"{path}.down_proj", inner, hidden, layers, bias=bias)


def _fused(family: Family, linears: list[Linear]) -> Iterator[Linear]:
    """Yield the layers by their family's own names; those that share one are one layer."""
    merged: dict[str, Linear] = {}
    for one in linears:
        room, _, name = one.path.rpartition(".")
        path = f"{room}.{(family.names or {}).get(name, name)}"
        before = merged.get(path)
        outputs = one.outputs + (before.outputs if before else 0)
        merged[path] = Linear(path, one.inputs, outputs, one.layers, one.each, one.active, one.bias, one.fused)
    yield from merged.values()


def _hits(target: str, path: str) -> bool:
    return basemodel.fits(target, path)


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return basemodel.text_of(config)
