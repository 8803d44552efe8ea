"""Models of known shapes, as GGUF files that are all header: their weights are holes, since cycles do not depend on them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tailrace.firmware.description import HeadNorm, NormKind

from ..gguf.architectures import ARCHITECTURES, Architecture
from ..gguf.writer import NewTensor, write_gguf


@dataclass(frozen=True)
class Shape:
    """The numbers of a model that its cycles depend on.

    Attributes
    ----------
    name, architecture : str
        The model's own name, and the architecture's in GGUF files.
    layers, hidden, heads, kv_heads, head_size, feed_forward, vocabulary : int
        `feed_forward` is that of an expert, if there are any.
    format, head_format : str
        Of the layers' matrices, and of the head; the router of experts is in float32.
    tied : bool
        Whether the embedding is the head.
    experts, used : int
        Experts, and how many of them a token uses; 0: none.
    shared : int
        Size of an expert that all tokens share, 0: none.
    dense_layers, dense : int
        Layers at the beginning that have no experts, and the size of their feed-forward.
    groups, used_groups : int
        Groups of experts, and from how many of them a token's are chosen.
    selection_bias : bool
        Whether a bias chooses among experts.
    window : int
        Tokens of a sliding window or a chunk, 0: none, or as many as the architecture says.
    context : int
        Tokens that it was trained for.
    original : int
        Those before it was extended by LongRoPE, 0: it was not.
    rotary : int
        Elements of a head that are rotated, 0: all.
    biases : bool
        Whether all matrices of layers have biases; those of q, k and v have some in some architectures anyway.
    expert_format : str
        Of the experts' matrices, if it is not that of the others.
    linear : tuple of int
        Key heads, value heads, and elements of each, of linear attention in all layers but every `every`-th.
    every, kernel : int
        `kernel`: taps of the convolutions before it, or of short convolutions.
    latent : tuple of int
        Of latent attention: elements of the latent, of a head's key without its rotated ones, of its value, and of the vector
        that queries are made of, 0: of the activations. `head_size` is that of what is cached, and there is one KV head.
    unlimited : tuple of int
        KV heads, and elements of a head, of the layers without a window, which are every `every`-th and have no matrix v; none:
        they are like the others.
    attending : tuple of int
        Layers with attention where the others have short convolutions; none: there are no such convolutions.
    """

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    format: str = "Q4_0"
    head_format: str = "Q4_0"
    tied: bool = False
    experts: int = 0
    used: int = 0
    shared: int = 0
    dense_layers: int = 0
    dense: int = 0
    groups: int = 1
    used_groups: int = 1
    selection_bias: bool = False
    window: int = 0
    context: int = 8192
    original: int = 0
    rotary: int = 0
    biases: bool = False
    expert_format: str = ""
    linear: tuple[int, int, int, int] | None = None
    every: int = 4
    kernel: int = 4
    latent: tuple[int, int, int, int] | None = None
    unlimited: tuple[int, int] | None = None
    attending: tuple[int, ...] = ()

    def sees_all(self, layer: int) -> bool:
        """Whether a layer is one of those that `unlimited` describes."""
        return self.unlimited is not None and layer % self.every == self.every - 1

    def heads_of(self, layer: int) -> tuple[int, int]:
        """KV heads of a layer, and elements of a head."""
        return self.unlimited if self.unlimited and self.sees_all(layer) else (self.kv_heads, self.head_size)


#: Architectures whose shared expert has a gate.
_GATED_SHARED = ("qwen2moe", "qwen35moe")
#: Architectures whose q, k and v have biases.
_BIASED = ("qwen2", "qwen2moe", "glm4moe")


def write_header(path: Path, shape: Shape, layers: int | None = None, *, drafts: bool = False) -> Path:
    """Write a GGUF file of a shape, with `layers` layers or all. It is all header; weights read as zero.

    `drafts`: whether a layer that drafts follows.
    """
    layers = shape.layers if layers is None else layers
    values, tensors = header_of(shape, layers), tensors_of(shape, layers)
    if drafts:
        values |= {f"{shape.architecture}.block_count": layers + 1, f"{shape.architecture}.nextn_predict_layers": 1}
        tensors = chain(tensors, _draft_layer(shape, layers))
    return write_gguf(path, shape.architecture, values, tensors)


def header_of(shape: Shape, layers: int) -> dict[str, Any]:
    """The header's values, but for the architecture and the tokenizer."""
    arch = ARCHITECTURES[shape.architecture]
    epsilon = "layer_norm_rms_epsilon" if arch.norm is NormKind.RMS else "layer_norm_epsilon"
    values: dict[str, Any] = {
        "block_count": layers,
        "context_length": shape.context,
        "embedding_length": shape.hidden,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        f"attention.{epsilon}": 1e-5,
        "vocab_size": shape.vocabulary,
    }
    if not arch.learned_positions:
        values |= {"rope.freq_base": 10000.0, "rope.dimension_count": shape.rotary or shape.head_size}
        values |= {"attention.key_length": shape.head_size, "attention.value_length": shape.head_size}
    if shape.latent:
        latent, key, value, rank = shape.latent
        values |= {"attention.kv_lora_rank": latent, "attention.value_length": latent}
        values |= {"attention.key_length_mla": key + shape.rotary, "attention.value_length_mla": value}
        values |= {"attention.q_lora_rank": rank} if rank else {}
    if shape.window:
        values["attention.chunk_size" if arch.chunked else "attention.sliding_window"] = shape.window
    if shape.unlimited:
        _, size = shape.unlimited
        values["attention.head_count_kv"] = [shape.heads_of(n)[0] for n in range(layers)]
        values |= dict.fromkeys(("attention.key_length_swa", "attention.value_length_swa"), shape.head_size)
        values |= dict.fromkeys(("attention.key_length", "attention.value_length", "rope.dimension_count"), size)
        values |= {"rope.dimension_count_swa": shape.head_size, "final_logit_softcapping": 30.0}
        values["attention.sliding_window_pattern"] = [not shape.sees_all(n) for n in range(layers)]
    if shape.linear:
        key_heads, value_heads, key_size, value_size = shape.linear
        values |= {"ssm.group_count": key_heads, "ssm.time_step_rank": value_heads, "ssm.state_size": key_size}
        values |= {"ssm.inner_size": value_heads * value_size, "ssm.conv_kernel": shape.kernel}
        values["full_attention_interval"] = shape.every
    if shape.attending:
        values["attention.head_count_kv"] = [shape.kv_heads if n in shape.attending else 0 for n in range(layers)]
        values["shortconv.l_cache"] = shape.kernel
    if shape.original:
        values |= {"rope.scaling.original_context_length": shape.original, "rope.scaling.attn_factor": 1.19}
    if shape.experts:
        values |= {"expert_count": shape.experts, "expert_used_count": shape.used}
        values["expert_feed_forward_length"] = shape.feed_forward
        values["feed_forward_length"] = shape.dense or shape.feed_forward
    if shape.shared:
        values["expert_shared_count"] = 1
    if shape.dense_layers:
        values["leading_dense_block_count"] = shape.dense_layers
    if shape.groups > 1:
        values |= {"expert_group_count": shape.groups, "expert_group_used_count": shape.used_groups}
    return {"general.name": shape.name, **{f"{shape.architecture}.{key}": value for key, value in values.items()}}


def tensors_of(shape: Shape, layers: int) -> Iterator[NewTensor]:
    """The tensors, all of them holes but for LongRoPE's factors."""
    arch, hidden = ARCHITECTURES[shape.architecture], shape.hidden
    everywhere = arch.norm is NormKind.LAYER
    yield NewTensor("token_embd.weight", (shape.vocabulary, hidden), shape.head_format)
    if arch.learned_positions:
        yield NewTensor("position_embd.weight", (shape.context, hidden), "F32")
    yield from _vectors(arch.final_norm, hidden, everywhere)
    if not shape.tied:
        yield NewTensor("output.weight", (shape.vocabulary, hidden), shape.head_format)
    if shape.original:
        for name in ("long", "short"):
            factors = np.ones((shape.rotary or shape.head_size) // 2, dtype=np.float32)
            yield NewTensor(f"rope_factors_{name}.weight", factors.shape, "F32", factors)
    if arch.global_frequencies:
        divisors = np.ones(shape.heads_of(shape.every - 1)[1] // 2, dtype=np.float32)
        yield NewTensor("rope_freqs.weight", divisors.shape, "F32", divisors)
    for n in range(layers):
        yield from _mixer(shape, arch, n)
        mixed = shape.experts > 0 and n >= shape.dense_layers
        if mixed and arch.experts_apart:
            yield from _feed_forward(shape, arch, f"blk.{n}.", mixed=False)
            yield from _apart(shape, f"blk.{n}.")
        yield from _feed_forward(shape, arch, f"blk.{n}.", mixed=mixed)


def _draft_layer(shape: Shape, n: int) -> Iterator[NewTensor]:
    """Tensors of a layer that drafts, which has attention whatever the others have."""
    arch, hidden, nextn = ARCHITECTURES[shape.architecture], shape.hidden, f"blk.{n}.nextn."
    yield from _mixer(replace(shape, linear=None), arch, n)
    yield from _feed_forward(shape, arch, f"blk.{n}.", mixed=shape.experts > 0)
    for name in ("enorm", "hnorm", "shared_head_norm"):
        yield from _vectors(nextn + name, hidden, False)
    yield NewTensor(f"{nextn}eh_proj.weight", (hidden, 2 * hidden), shape.format)


def _linear(shape: Shape, layer: str) -> Iterator[NewTensor]:
    """Tensors of linear attention."""
    assert shape.linear is not None
    key_heads, value_heads, key_size, value_size = shape.linear
    inner, hidden = value_heads * value_size, shape.hidden
    channels = 2 * key_heads * key_size + inner
    for name, rows in {"ssm_alpha": value_heads, "ssm_beta": value_heads, "attn_qkv": channels, "attn_gate": inner}.items():
        yield NewTensor(f"{layer}{name}.weight", (rows, hidden), shape.format)
    yield NewTensor(f"{layer}ssm_out.weight", (hidden, inner), shape.format)
    yield NewTensor(f"{layer}ssm_conv1d.weight", (channels, shape.kernel), "F32")
    yield NewTensor(f"{layer}ssm_a", (value_heads,), "F32")
    yield NewTensor(f"{layer}ssm_dt.bias", (value_heads,), "F32")
    yield NewTensor(f"{layer}ssm_norm.weight", (value_size,), "F32")


def _short_convolution(shape: Shape, layer: str) -> Iterator[NewTensor]:
    """Tensors of a short convolution."""
    hidden = shape.hidden
    yield from _matrices(
        f"{layer}shortconv.", {"in_proj": (3 * hidden, hidden), "out_proj": (hidden, hidden)}, shape.format, False
    )
    yield NewTensor(f"{layer}shortconv.conv.weight", (hidden, shape.kernel), "F32")


def _latent_attention(shape: Shape, sizes: tuple[int, int, int, int], layer: str) -> Iterator[NewTensor]:
    """Tensors of latent attention."""
    (latent, key, value, rank), hidden, heads = sizes, shape.hidden, shape.heads
    matrices: dict[str, tuple[int, ...]] = {"attn_q_a": (rank, hidden)} if rank else {}
    matrices["attn_q_b" if rank else "attn_q"] = heads * (key + shape.rotary), rank or hidden
    matrices |= {"attn_kv_a_mqa": (latent + shape.rotary, hidden), "attn_output": (hidden, heads * value)}
    matrices |= {"attn_k_b": (heads, latent, key), "attn_v_b": (heads, value, latent)}
    yield from _matrices(layer, matrices, shape.format, False)
    yield from _vectors(f"{layer}attn_kv_a_norm", latent, False)
    if rank:
        yield from _vectors(f"{layer}attn_q_a_norm", rank, False)


def _mixer(shape: Shape, arch: Architecture, n: int) -> Iterator[NewTensor]:
    """Norms of a layer, and the tensors of attention, or of what it has in its place."""
    layer = f"blk.{n}."
    hidden, centred = shape.hidden, arch.norm is NormKind.LAYER
    for norm in ("attn_norm", arch.feed_forward_norm, *(("post_attention_norm", "post_ffw_norm") if arch.post_norms else ())):
        yield from _vectors(f"{layer}{norm}", hidden, centred)
    if arch.sinks:
        yield from _vectors(f"{layer}attn_sinks", shape.heads, False)
    if shape.unlimited:
        yield NewTensor(f"{layer}layer_output_scale.weight", (1,), "F32")
    if shape.linear and n % shape.every != shape.every - 1:
        yield from _linear(shape, layer)
    elif shape.attending and n not in shape.attending:
        yield from _short_convolution(shape, layer)
    elif shape.latent:
        yield from _latent_attention(shape, shape.latent, layer)
    else:
        yield from _attention(shape, arch, n)


def _apart(shape: Shape, layer: str) -> Iterator[NewTensor]:
    """Norms of experts beside a feed-forward."""
    for name in ("pre_ffw_norm_2", "post_ffw_norm_2", "post_ffw_norm_1"):
        yield from _vectors(layer + name, shape.hidden, False)
    yield NewTensor(f"{layer}ffn_gate_inp.scale", (shape.hidden,), "F32")
    yield NewTensor(f"{layer}ffn_down_exps.scale", (shape.experts,), "F32")


def _attention(shape: Shape, arch: Architecture, n: int) -> Iterator[NewTensor]:
    """Tensors of attention."""
    layer, (kv_heads, head_size) = f"blk.{n}.", shape.heads_of(n)
    hidden, everywhere = shape.hidden, arch.norm is NormKind.LAYER or shape.biases
    queries, keys = shape.heads * head_size, kv_heads * head_size
    whole = arch.head_norm is HeadNorm.ALL_HEADS
    has_weights = arch.head_norm is not None and arch.head_norm.has_weights and not arch.optional_head_norm
    for head, size in (("q", queries), ("k", keys)) if has_weights else ():
        yield from _vectors(f"{layer}attn_{head}_norm", size if whole else head_size, False)
    rows = {"attn_qkv": queries + 2 * keys} if arch.fused_qkv else {"attn_q": queries, "attn_k": keys, "attn_v": keys}
    if arch.gated_attention:
        rows["attn_q"] = 2 * queries
    if shape.sees_all(n):
        del rows["attn_v"]
    for name, count in rows.items():
        yield NewTensor(f"{layer}{name}.weight", (count, hidden), shape.format)
        if everywhere or shape.architecture in _BIASED:
            yield NewTensor(f"{layer}{name}.bias", (count,), "F32")
    yield from _matrices(layer, {"attn_output": (hidden, queries)}, shape.format, everywhere)


def _feed_forward(shape: Shape, arch: Architecture, layer: str, *, mixed: bool) -> Iterator[NewTensor]:
    """A feed-forward, or experts."""
    hidden, size, biases = shape.hidden, shape.feed_forward, arch.norm is NormKind.LAYER
    if not mixed:
        size = shape.dense or size
        gated = {"ffn_up": 2 * size} if arch.fused_gate_up else {"ffn_gate": size, "ffn_up": size}
        rows = gated if arch.gated else {"ffn_up": size}
        sizes = {name: (n, hidden) for name, n in rows.items()} | {"ffn_down": (hidden, size)}
        yield from _matrices(layer, sizes, shape.format, biases)
        return
    for part, dimensions in (("weight", (shape.experts, hidden)), ("bias", (shape.experts,)))[: 1 + shape.biases]:
        yield NewTensor(f"{layer}ffn_gate_inp.{part}", dimensions, "F32")
    if shape.selection_bias:
        yield NewTensor(f"{layer}exp_probs_b.bias", (shape.experts,), "F32")
    for name, dimensions in (("gate", (size, hidden)), ("up", (size, hidden)), ("down", (hidden, size))):
        yield NewTensor(f"{layer}ffn_{name}_exps.weight", (shape.experts, *dimensions), shape.expert_format or shape.format)
        if shape.biases:
            yield NewTensor(f"{layer}ffn_{name}_exps.bias", (shape.experts, dimensions[0]), "F32")
    if shape.shared:
        sizes = {f"ffn_{name}_shexp": (shape.shared, hidden) for name in ("gate", "up")}
        yield from _matrices(layer, sizes | {"ffn_down_shexp": (hidden, shape.shared)}, shape.format, False)
    if shape.shared and shape.architecture in _GATED_SHARED:
        yield NewTensor(f"{layer}ffn_gate_inp_shexp.weight", (hidden,), "F32")


def _matrices(layer: str, sizes: Mapping[str, tuple[int, ...]], kind: str, biases: bool) -> Iterator[NewTensor]:
    for name, dimensions in sizes.items():
        yield NewTensor(f"{layer}{name}.weight", dimensions, kind)
        if biases:
            yield NewTensor(f"{layer}{name}.bias", dimensions[:1], "F32")


def _vectors(name: str, size: int, bias: bool) -> Iterator[NewTensor]:
    for part in ("weight", "bias") if bias else ("weight",):
        yield NewTensor(f"{name}.{part}", (size,), "F32")
