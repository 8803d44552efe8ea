"""From a Hugging Face model to the description of a decoder, and to the parameters behind each of its roles."""

import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from tailrace.firmware.description import (
    Activation,
    Attention,
    Description,
    Experts,
    FeedForward,
    Layer,
    Norm,
    NormKind,
    layer_role,
)
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.isa import MAX_HEAD

from ..gguf.architectures import ARCHITECTURES, Architecture
from ..gguf.describe import LOCAL_ROPE, ROPE, DescribedModel, NoDescriptionError, Source
from ..gguf.rope import Rope
from . import internals
from .hybrid_configuration import HYBRID_TYPES
from .parameters import ParameterSource, parameter_tensor
from .weights import NORMS_ABOVE_ONE

#: Types of models, and the architecture in files of each.
MODEL_TYPES = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
    "gpt2": "gpt2",
}
_ACTIVATIONS = {
    Activation.SILU: ("silu", "swish"),
    Activation.GELU: ("gelu_pytorch_tanh", "gelu_new", "gelu_fast"),
}


@dataclass(frozen=True)
class _Names:
    """Where the parameters of a family of models are."""

    layers: str
    embedding: str
    norm: str
    attention: str
    positions: str = ""
    roles: tuple[tuple[str, str], ...] = ()

    def role(self, role: str) -> str:
        """The module of a layer's role, below the layer."""
        return dict(self.roles)[role]


_COMMON = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "qkv": "self_attn.qkv_proj",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
    "o": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "gate_up": "mlp.gate_up_proj",
    "down": "mlp.down_proj",
    "router": "mlp.gate",
    "experts": "mlp.experts",
}
_WITH_POST_NORMS = {
    "attention_post_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_post_norm": "post_feedforward_layernorm",
}
_GPT2 = {
    "attention_norm": "ln_1",
    "qkv": "attn.c_attn",
    "o": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}


def _names(arch: Architecture) -> _Names:
    if arch.learned_positions:
        roles = tuple(_GPT2.items())
        return _Names("transformer.h", "transformer.wte", "transformer.ln_f", "attn", "transformer.wpe", roles)
    roles = tuple({**_COMMON, **(_WITH_POST_NORMS if arch.post_norms else {})}.items())
    return _Names("model.layers", "model.embed_tokens", "model.norm", "self_attn", roles=roles)


def trained_context(model: Any) -> int:
    """Positions that a model was trained for.

    Raises
    ------
    NoDescriptionError
        If it is of another type.
    """
    _check_type(model)
    config = model.config
    return int(config.n_positions if config.model_type == "gpt2" else config.max_position_embeddings)


def describe_model(model: Any, context: int | None = None) -> DescribedModel:
    """Describe a model, and find the parameter behind each role. Nothing is copied.

    Parameters
    ----------
    model : PreTrainedModel
        With a head for the next token; on any device.
    context : int or None
        Positions that will be used; None: as many as the model was trained for.

    Raises
    ------
    NoDescriptionError
        If it computes something that a description can't say.
    LimitError
        If it was not trained for that many positions.
    ModelError
        If its parameters are not plain numbers.
    """
    _check_type(model)
    return _Describer(model, context).run()


def keeps_states(model: Any) -> bool:
    """Whether a model is of a type that has more than keys and values, and is taken from a file as it is."""
    return isinstance(model, PreTrainedModel) and str(model.config.model_type) in HYBRID_TYPES


def _name(model: Any) -> str:
    return str(model.config.name_or_path) or type(model).__name__


def _check_type(model: Any) -> None:
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            "the model must be one of Hugging Face's, as AutoModelForCausalLM.from_pretrained gives it, not"
            f" {reprlib.repr(model) if isinstance(model, str) else type(model).__name__}"
        )
    kind = str(model.config.model_type)
    if kind not in MODEL_TYPES:
        known = ", ".join([*MODEL_TYPES, *HYBRID_TYPES])
        raise NoDescriptionError(
            f"{_name(model)} can't be decoded as a whole: its type {kind!r} is none of {known}. Its linear layers can run on"
            " the device one by one, from a GGUF file: tailrace.huggingface.operations"
        )


class _Describer:
    def __init__(self, model: Any, context: int | None) -> None:
        self.model, self.name, self.config = model, _name(model), model.config
        self.arch = arch = ARCHITECTURES[MODEL_TYPES[str(self.config.model_type)]]
        trained = trained_context(model)
        if context is not None and not 1 <= context <= trained:
            raise LimitError(f"{self.name} was made for a context of {trained} tokens: ask for 1 to {trained}, not {context}")
        self.context = trained if context is None else context
        self.names = _names(arch)
        self.parameters: dict[str, torch.Tensor] = model.state_dict()
        self.matrices: dict[str, Source] = {}
        self.tables: dict[str, Source] = {}
        self.used: set[str] = set()

    def run(self) -> DescribedModel:
        self._check()
        config, arch = self.config, self.arch
        self.hidden = int(config.hidden_size)
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(getattr(config, "num_key_value_heads", None) or self.heads)
        self.head_size = int(getattr(config, "head_dim", None) or self.hidden // self.heads)
        if self.head_size % 8 or self.head_size > MAX_HEAD:
            raise self._unfit(f"its heads have {self.head_size} elements, which is not a multiple of 8 up to {MAX_HEAD}")
        ropes = {} if arch.learned_positions else self._ropes()
        self.rotary_size = next(iter(ropes.values())).size if ropes else 0
        if self.rotary_size % 8:
            raise self._unfit(
                f"it rotates {self.rotary_size} of {self.head_size} elements of a head, which is not a multiple of 8"
            )
        layers = tuple(self._layer(n) for n in range(int(config.num_hidden_layers)))
        vocabulary = self._model_parameters()
        left = sorted(set(self.parameters) - self.used)
        if left:
            raise self._unfit(
                f"it has parameters that no other {config.model_type} model has, such as {left[0]} (adapters have to be merged)"
            )
        description = Description(
            architecture=arch.name,
            hidden=self.hidden,
            vocabulary=vocabulary,
            layers=layers,
            norm=self._epsilon(),
            embedding_scale=self.hidden**0.5 if arch.scaled_embedding else 1.0,
            learned_positions=arch.learned_positions,
            logit_cap=getattr(config, "final_logit_softcapping", None) or None,
        )
        return DescribedModel(
            self.name, self.context, trained_context(self.model), description, self.matrices, self.tables, ropes
        )

    def _unfit(self, reason: str) -> NoDescriptionError:
        return NoDescriptionError(f"{self.name} can't be decoded as a whole: {reason}")

    def _check(self) -> None:
        config, arch = self.config, self.arch
        for parameter, weight in self.parameters.items():
            if weight.is_meta:
                raise ModelError(
                    f"{parameter} is on the device meta, without numbers: load the model without offloading to disk or CPU"
                )
        name = next(
            (str(v) for k in ("hidden_act", "hidden_activation", "activation_function") if (v := getattr(config, k, None))), ""
        )
        if name not in _ACTIVATIONS[arch.activation]:
            raise self._unfit(f"its activation is {name}, and {config.model_type} models have {arch.activation.value}")
        for key in ("attn_logit_softcapping", "use_bidirectional_attention", "add_cross_attention"):
            if getattr(config, key, None):
                raise self._unfit(f"its configuration has {key} = {getattr(config, key)}")

    def _epsilon(self) -> Norm:
        rms = self.arch.norm is NormKind.RMS
        # As files have it.
        return Norm(self.arch.norm, float(np.float32(self.config.rms_norm_eps if rms else self.config.layer_norm_epsilon)))

    def _ropes(self) -> dict[str, Rope]:
        """The angles that the model itself uses, whatever they come from."""
        ropes = {}
        for kind, found in internals.rotations(self.model).items():
            if found.kind == "dynamic" or (found.kind == "longrope" and self.context > found.original_context):
                raise self._unfit(
                    f"its angles of RoPE ({found.kind}) change once a sequence is longer than {found.original_context} tokens:"
                    f" ask for a context of at most {found.original_context}"
                )
            size = 2 * len(found.frequencies)
            plain = Rope(size, found.base)
            ratios = plain.frequencies() / found.frequencies
            divisors = () if np.allclose(ratios, 1.0, rtol=1e-6, atol=0) else tuple(map(float, ratios))
            ropes[LOCAL_ROPE if kind == "sliding_attention" else ROPE] = Rope(size, found.base, divisors, found.magnitude)
        return ropes

    def _layer(self, n: int) -> Layer:
        arch, role = self.arch, self.names.role
        self._norm(layer_role(n, "attention_norm"), f"{self.names.layers}.{n}.{role('attention_norm')}", self.hidden)
        attention = self._attention(n)
        for name in ("attention_post_norm",) * arch.post_norms + ("feed_forward_norm",):
            self._norm(layer_role(n, name), f"{self.names.layers}.{n}.{role(name)}", self.hidden)
        feed_forward = self._feed_forward(n)
        if arch.post_norms:
            name = "feed_forward_post_norm"
            self._norm(layer_role(n, name), f"{self.names.layers}.{n}.{role(name)}", self.hidden)
        return Layer(attention, feed_forward, arch.post_norms)

    def _attention(self, n: int) -> Attention:
        arch, config = self.arch, self.config
        query, key = self.heads * self.head_size, self.kv_heads * self.head_size
        if arch.fused_qkv:
            self._parts(n, "qkv", {"q": query, "k": key, "v": key}, self.hidden)
        else:
            for part, rows in {"q": query, "k": key, "v": key}.items():
                self._matrix(n, part, rows, self.hidden)
        if arch.head_norm:
            for name, heads in (("q_norm", self.heads), ("k_norm", self.kv_heads)):
                self._norm(
                    layer_role(n, name), f"{self.names.layers}.{n}.{self.names.role(name)}", self.head_size, repeats=heads
                )
        self._matrix(n, "o", self.hidden, query)
        kinds = getattr(config, "layer_types", None)
        kind = kinds[n] if kinds else None
        if kind not in (None, "full_attention", "sliding_attention"):
            raise self._unfit(f"layer {n} is of the type {kind}")
        window = getattr(config, "sliding_window", None) if kind != "full_attention" else None
        local = kind == "sliding_attention" and arch.local_rope_base is not None
        module = self.model.get_submodule(f"{self.names.layers}.{n}.{self.names.attention}")
        return Attention(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_size=self.head_size,
            scale=internals.attention_scale(module),
            rotary_size=self.rotary_size,
            rope=LOCAL_ROPE if local else ROPE,
            # A window that nothing can leave is none.
            window=None if window is None or window >= self.context else int(window),
            head_norm=arch.head_norm,
        )

    def _feed_forward(self, n: int) -> FeedForward | Experts:
        arch, layer = self.arch, f"{self.names.layers}.{n}."
        if not arch.learned_positions and f"{layer}{self.names.role('router')}.weight" in self.parameters:
            return self._experts(n, layer)
        down = f"{layer}{self.names.role('down')}.weight"
        size = self._shape(down)[1]
        if arch.fused_gate_up:
            self._parts(n, "gate_up", {"gate": size, "up": size}, self.hidden)
        else:
            for part in ("gate", "up") if arch.gated else ("up",):
                self._matrix(n, part, size, self.hidden)
        self._matrix(n, "down", self.hidden, size)
        return FeedForward(size, arch.activation, arch.gated)

    def _experts(self, n: int, layer: str) -> Experts:
        experts = layer + self.names.role("experts")
        count, _, size = self._shape(f"{experts}.down_proj")
        self._matrix(n, "router", count, self.hidden)
        for role, leaf, first, rows, columns in (
            ("gate", "gate_up_proj", 0, size, self.hidden),
            ("up", "gate_up_proj", size, size, self.hidden),
            ("down", "down_proj", 0, self.hidden, size),
        ):
            parameter = self._parameter(f"{experts}.{leaf}", (count, self.hidden if role == "down" else 2 * size, columns))
            tensor = parameter_tensor(f"{experts}.{leaf}", parameter)
            self.matrices[layer_role(n, f"experts_{role}")] = ParameterSource(tensor, first, rows, columns, experts=count)
        normalise = bool(getattr(self.config, "norm_topk_prob", True))
        return Experts(count, int(self.config.num_experts_per_tok), FeedForward(size, self.arch.activation), normalise)

    def _model_parameters(self) -> int:
        embedding = f"{self.names.embedding}.weight"
        vocabulary = self._shape(embedding)[0]
        self.tables["embedding"] = self._source(embedding, 0, vocabulary, (vocabulary, self.hidden))
        if self.arch.learned_positions:
            name, rows = f"{self.names.positions}.weight", int(self.config.n_positions)
            self.tables["position_embedding"] = self._source(name, 0, rows, (rows, self.hidden))
        self._norm("final_norm", self.names.norm, self.hidden)
        self._place("head", "lm_head", 0, vocabulary, vocabulary, self.hidden)
        return vocabulary

    def _norm(self, role: str, module: str, size: int, *, repeats: int = 1) -> None:
        above = 1.0 if self.arch.name in NORMS_ABOVE_ONE else 0.0
        self._vector(role, f"{module}.weight", 0, size, size, repeats=repeats, above=above)
        if self.arch.norm is NormKind.LAYER:
            self._vector(f"{role}_bias", f"{module}.bias", 0, size, size)

    def _parts(self, n: int, fused: str, parts: dict[str, int], columns: int) -> None:
        first = 0
        module = f"{self.names.layers}.{n}.{self.names.role(fused)}"
        for part, rows in parts.items():
            self._place(layer_role(n, part), module, first, rows, sum(parts.values()), columns)
            first += rows

    def _matrix(self, n: int, role: str, rows: int, columns: int) -> None:
        self._place(layer_role(n, role), f"{self.names.layers}.{n}.{self.names.role(role)}", 0, rows, rows, columns)

    def _place(self, role: str, module: str, first: int, rows: int, total: int, columns: int) -> None:
        """Note the rows of a module's matrix, and of its bias if it has one."""
        self.matrices[role] = self._source(f"{module}.weight", first, rows, (total, columns))
        if f"{module}.bias" in self.parameters:
            self._vector(f"{role}_bias", f"{module}.bias", first, rows, total)

    def _vector(self, role: str, name: str, first: int, rows: int, total: int, *, repeats: int = 1, above: float = 0.0) -> None:
        tensor = parameter_tensor(name, self._parameter(name, (total,)))
        self.tables[role] = ParameterSource(tensor, first, rows, 1, repeats=repeats, above=above)

    def _source(self, name: str, first: int, rows: int, shape: tuple[int, int]) -> ParameterSource:
        weight = self._parameter(name, shape)
        return ParameterSource(parameter_tensor(name, weight), first, rows, shape[1])

    def _parameter(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        found = self._shape(name)
        if found != shape:
            have, want = (" x ".join(map(str, s)) for s in (found, shape))
            raise self._unfit(f"{name} is {have}, and its configuration speaks of {want}")
        self.used.add(name)
        return self._oriented(name)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.parameters:
            raise self._unfit(f"it has no parameter {name}, as {self.config.model_type} models have")
        return tuple(self._oriented(name).shape)

    def _oriented(self, name: str) -> torch.Tensor:
        """A parameter with its rows first."""
        weight = self.parameters[name]
        transposed = weight.ndim == 2 and internals.is_transposed(self.model.get_submodule(name.rpartition(".")[0]))
        return weight.T if transposed else weight
