"""Models of known shapes, as GGUF files that are all header: their weights are holes, since cycles do not depend on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailrace.firmware.description import NormKind

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
    window : int
        Tokens of a sliding window, 0: none.
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
    window: int = 0
    context: int = 8192
    original: int = 0
    rotary: int = 0
    biases: bool = False
    expert_format: str = ""


#: Those that decode steps are measured with.
SHAPES: dict[str, Shape] = {
    s.name: s
    for s in (
        Shape("SmolLM2-135M", "llama", 30, 576, 9, 3, 64, 1536, 49152, "Q4_1", "Q8_0", tied=True),
        Shape("Llama-2-7B", "llama", 32, 4096, 32, 32, 128, 11008, 32000),
        Shape("Llama-3-8B", "llama", 32, 4096, 32, 8, 128, 14336, 128256),
        Shape("Qwen3-8B", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936),
        Shape("Qwen3-30B-A3B", "qwen3moe", 48, 2048, 32, 4, 128, 768, 151936, experts=128, used=8),
        Shape(
            "Gemma-3-270M", "gemma3", 18, 640, 4, 1, 256, 2048, 262144,
            head_format="Q8_0", tied=True, window=512,
        ),
    )
}  # fmt: skip


def write_header(path: Path, shape: Shape, layers: int | None = None) -> Path:
    """Write a GGUF file of a shape, with `layers` layers or all. It is all header; weights read as zero."""
    layers = shape.layers if layers is None else layers
    return write_gguf(path, shape.architecture, header_of(shape, layers), tensors_of(shape, layers))


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
    if shape.window:
        values["attention.sliding_window"] = shape.window
    if shape.original:
        values |= {"rope.scaling.original_context_length": shape.original, "rope.scaling.attn_factor": 1.19}
    if shape.experts:
        values |= {"expert_count": shape.experts, "expert_used_count": shape.used}
        values["expert_feed_forward_length"] = shape.feed_forward
    return {"general.name": shape.name, **{f"{shape.architecture}.{key}": value for key, value in values.items()}}


def tensors_of(shape: Shape, layers: int) -> Iterator[NewTensor]:
    """The tensors, all of them holes but for LongRoPE's factors."""
    arch, hidden = ARCHITECTURES[shape.architecture], shape.hidden
    everywhere = arch.norm is NormKind.LAYER
    yield NewTensor("token_embd.weight", (shape.vocabulary, hidden), shape.head_format)
    if arch.learned_positions:
        yield NewTensor("position_embd.weight", (shape.context, hidden), "F32")
    yield from _vectors("output_norm", hidden, everywhere)
    if not shape.tied:
        yield NewTensor("output.weight", (shape.vocabulary, hidden), shape.head_format)
    if shape.original:
        for name in ("long", "short"):
            factors = np.ones((shape.rotary or shape.head_size) // 2, dtype=np.float32)
            yield NewTensor(f"rope_factors_{name}.weight", factors.shape, "F32", factors)
    for n in range(layers):
        yield from _layer(shape, arch, f"blk.{n}.")


def _layer(shape: Shape, arch: Architecture, layer: str) -> Iterator[NewTensor]:
    hidden, size, kind = shape.hidden, shape.feed_forward, shape.format
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    everywhere = arch.norm is NormKind.LAYER or shape.biases
    for norm in ("attn_norm", arch.feed_forward_norm, *(("post_attention_norm", "post_ffw_norm") if arch.post_norms else ())):
        yield from _vectors(f"{layer}{norm}", hidden, arch.norm is NormKind.LAYER)
    if arch.sinks:
        yield from _vectors(f"{layer}attn_sinks", shape.heads, False)
    for head in "qk" if arch.head_norm else "":
        yield from _vectors(f"{layer}attn_{head}_norm", shape.head_size, False)
    rows = {"attn_qkv": queries + 2 * keys} if arch.fused_qkv else {"attn_q": queries, "attn_k": keys, "attn_v": keys}
    for name, n in rows.items():
        yield NewTensor(f"{layer}{name}.weight", (n, hidden), kind)
        if everywhere or shape.architecture == "qwen2":
            yield NewTensor(f"{layer}{name}.bias", (n,), "F32")
    matrices = {"attn_output": (hidden, queries)}
    if shape.experts:
        for part, dimensions in (("weight", (shape.experts, hidden)), ("bias", (shape.experts,)))[: 1 + shape.biases]:
            yield NewTensor(f"{layer}ffn_gate_inp.{part}", dimensions, "F32")
        for name, dimensions in (("gate", (size, hidden)), ("up", (size, hidden)), ("down", (hidden, size))):
            yield NewTensor(f"{layer}ffn_{name}_exps.weight", (shape.experts, *dimensions), shape.expert_format or kind)
            if shape.biases:
                yield NewTensor(f"{layer}ffn_{name}_exps.bias", (shape.experts, dimensions[0]), "F32")
    else:
        outer = (
            {"ffn_up": 2 * size}
            if arch.fused_gate_up
            else {"ffn_gate": size, "ffn_up": size}
            if arch.gated
            else {"ffn_up": size}
        )
        matrices |= {name: (n, hidden) for name, n in outer.items()} | {"ffn_down": (hidden, size)}
    for name, dimensions in matrices.items():
        yield NewTensor(f"{layer}{name}.weight", dimensions, kind)
        if everywhere:
            yield NewTensor(f"{layer}{name}.bias", dimensions[:1], "F32")


def _vectors(name: str, size: int, bias: bool) -> Iterator[NewTensor]:
    for part in ("weight", "bias") if bias else ("weight",):
        yield NewTensor(f"{name}.{part}", (size,), "F32")
