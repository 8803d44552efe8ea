"""Models of known shapes, as GGUF files that are all header: their weights are holes, since cycles do not depend on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from tailrace.spec.formats import BLOCK, BY_NAME

#: Trained context that a header names: more than any measurement needs, whatever the model was trained for.
CONTEXT_LENGTH = 8192


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
    head_norm, post_norms : bool
        Whether heads, and what is added to the activations, are normalised.
    experts, used : int
        Experts, and how many of them a token uses; 0: none.
    window : int
        Tokens of a sliding window, 0: none.
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
    head_norm: bool = False
    post_norms: bool = False
    experts: int = 0
    used: int = 0
    window: int = 0


SHAPES: dict[str, Shape] = {
    s.name: s
    for s in (
        Shape("SmolLM2-135M", "llama", 30, 576, 9, 3, 64, 1536, 49152, "Q4_1", "Q8_0", tied=True),
        Shape("Llama-2-7B", "llama", 32, 4096, 32, 32, 128, 11008, 32000),
        Shape("Llama-3-8B", "llama", 32, 4096, 32, 8, 128, 14336, 128256),
        Shape("Qwen3-8B", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936, head_norm=True),
        Shape("Qwen3-30B-A3B", "qwen3moe", 48, 2048, 32, 4, 128, 768, 151936, head_norm=True, experts=128, used=8),
        Shape(
            "Gemma-3-270M", "gemma3", 18, 640, 4, 1, 256, 2048, 262144,
            head_format="Q8_0", tied=True, head_norm=True, post_norms=True, window=512,
        ),
    )
}  # fmt: skip


def write_header(path: Path, shape: Shape, layers: int) -> Path:
    """Write a GGUF file with `layers` layers of a shape. It takes no more room than its header; all weights read as zero."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    _write_metadata(writer, shape, layers)
    size = 0
    for name, dimensions, kind in _tensors(shape, layers):
        _, tensor_bytes = _extent(dimensions, kind)
        size += writer.ggml_pad(tensor_bytes, writer.data_alignment)
        _add(writer, name, dimensions, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    start = writer.ggml_pad(path.stat().st_size, writer.data_alignment)
    with path.open("r+b") as file:
        file.truncate(start + size)
    return path


def _write_metadata(writer: gguf.GGUFWriter, shape: Shape, layers: int) -> None:
    writer.add_name(shape.name)
    writer.add_block_count(layers)
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_vocab_size(shape.vocabulary)
    if shape.window:
        writer.add_sliding_window(shape.window)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.used)
        writer.add_expert_feed_forward_length(shape.feed_forward)


def _tensors(shape: Shape, layers: int) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Names, shapes (rows first) and types."""
    hidden, size, kind = shape.hidden, shape.feed_forward, shape.format
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    yield "token_embd.weight", (shape.vocabulary, hidden), shape.head_format
    yield "output_norm.weight", (hidden,), "F32"
    if not shape.tied:
        yield "output.weight", (shape.vocabulary, hidden), shape.head_format
    norms = ["attn_norm", "ffn_norm", *(["post_attention_norm", "post_ffw_norm"] if shape.post_norms else [])]
    for layer in (f"blk.{n}." for n in range(layers)):
        for norm in norms:
            yield f"{layer}{norm}.weight", (hidden,), "F32"
        if shape.head_norm:
            for head in ("q", "k"):
                yield f"{layer}attn_{head}_norm.weight", (shape.head_size,), "F32"
        for matrix, rows, columns in (
            ("q", queries, hidden),
            ("k", keys, hidden),
            ("v", keys, hidden),
            ("output", hidden, queries),
        ):
            yield f"{layer}attn_{matrix}.weight", (rows, columns), kind
        experts, suffix = ((shape.experts,), "_exps") if shape.experts else ((), "")
        if shape.experts:
            yield f"{layer}ffn_gate_inp.weight", (shape.experts, hidden), "F32"
        for matrix, rows, columns in (("gate", size, hidden), ("up", size, hidden), ("down", hidden, size)):
            yield f"{layer}ffn_{matrix}{suffix}.weight", (*experts, rows, columns), kind


def _extent(dimensions: tuple[int, ...], kind: str) -> tuple[int, int]:
    """Bytes of a row and of the whole tensor."""
    row = 4 * dimensions[-1] if kind == "F32" else BY_NAME[kind].row_bytes(dimensions[-1])
    return row, row * int(np.prod(dimensions[:-1]))


def _add(writer: gguf.GGUFWriter, name: str, dimensions: tuple[int, ...], kind: str) -> None:
    row, size = _extent(dimensions, kind)
    if kind == "F32":
        writer.add_tensor_info(name, dimensions, np.dtype(np.float32), size)
        return
    if dimensions[-1] % BLOCK:
        raise ValueError(f"rows of {name} have {dimensions[-1]} elements, which are not whole blocks of {BLOCK}")
    number = gguf.GGMLQuantizationType(BY_NAME[kind].ggml_type)
    writer.add_tensor_info(name, (*dimensions[:-1], row), np.dtype(np.uint8), size, number)
