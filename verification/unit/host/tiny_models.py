"""Small GGUF models with random weights, written as a converter would write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tailrace.gguf.header import Header
from tailrace.gguf.types import TENSOR_TYPES
from tailrace.gguf.writer import NewTensor, tensor_of, write_gguf

CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
SPECIAL = ["<unk>", "<|im_start|>", "<|im_end|>"]


def byte_alphabet() -> list[str]:
    """The 256 characters that byte-level tokenizers (GPT-2) use for bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    extra = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(extra)) for b in range(256)]


def tokenizer_values(tokens: list[str]) -> dict[str, Any]:
    """The part of a header about a byte-level tokenizer with this vocabulary."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if t.startswith("<") and len(t) > 1 else 1 for t in tokens],
        "tokenizer.ggml.merges": ["a b", "c d"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def write_model(
    path: Path,
    architecture: str = "llama",
    *,
    types: Mapping[str, str] | None = None,
    default_type: str = "Q8_0",
    hidden: int = 64,
    heads: int | tuple[int, ...] = 2,
    kv_heads: int | tuple[int, ...] = 1,
    head_size: int = 32,
    feed_forward: int | tuple[int, ...] = 96,
    layers: int = 2,
    context: int = 64,
    tied: bool = True,
    chat_template: str | None = CHAT_TEMPLATE,
    seed: int = 1,
    extra: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    change: Mapping[str, np.ndarray] | None = None,
    leave_out: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> Path:
    """Write a model.

    Heads and feed-forward are the same in all layers, or one for each. `types` gives the type of single tensors by name, `default_type` that of the other matrices. `extra` adds float32 tensors,
    `metadata` adds or replaces values, and `without` leaves some out; `change` replaces a tensor's bytes, and `leave_out` leaves
    tensors out.
    """
    random = np.random.default_rng(seed)
    tokens = SPECIAL + byte_alphabet() + ["ab", "cd"]
    tokens += [f"<unused{i}>" for i in range(-len(tokens) % 32)]
    values: dict[str, Any] = {
        "general.name": "tiny",
        f"{architecture}.block_count": layers,
        f"{architecture}.context_length": context,
        f"{architecture}.embedding_length": hidden,
        f"{architecture}.feed_forward_length": feed_forward,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": kv_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 10000.0,
        f"{architecture}.rope.dimension_count": head_size,
        f"{architecture}.attention.key_length": head_size,
        f"{architecture}.attention.value_length": head_size,
        f"{architecture}.vocab_size": len(tokens),
        **tokenizer_values(tokens),
        **({"tokenizer.chat_template": chat_template} if chat_template else {}),
        **(metadata or {}),
    }
    for key in without:
        del values[key]
    tensors: list[NewTensor] = []

    def add(name: str, *shape: int, spread: float) -> None:
        numbers = (random.standard_normal(shape) * spread).astype(np.float32)
        if name in leave_out:
            return
        kind = (types or {}).get(name, default_type if len(shape) == 2 else "F32")
        data = (change or {}).get(name)
        tensors.append(tensor_of(name, numbers, kind) if data is None else NewTensor(name, shape, kind, data))

    add("token_embd.weight", len(tokens), hidden, spread=0.5)
    for layer in range(layers):
        block = f"blk.{layer}"
        query, key, inner = (n if isinstance(n, int) else n[layer] for n in (heads, kv_heads, feed_forward))
        query, key = query * head_size, key * head_size
        for name, rows, columns in (
            ("attn_q", query, hidden),
            ("attn_k", key, hidden),
            ("attn_v", key, hidden),
            ("attn_output", hidden, query),
            ("ffn_gate", inner, hidden),
            ("ffn_up", inner, hidden),
            ("ffn_down", hidden, inner),
        ):
            add(f"{block}.{name}.weight", rows, columns, spread=columns**-0.5)
        for name in ("attn_norm", "ffn_norm"):
            add(f"{block}.{name}.weight", hidden, spread=1.0)
        if architecture == "qwen2":
            for name, rows in (("attn_q", query), ("attn_k", key), ("attn_v", key)):
                add(f"{block}.{name}.bias", rows, spread=0.5)
        if architecture == "qwen3":
            for name in ("attn_q_norm", "attn_k_norm"):
                add(f"{block}.{name}.weight", head_size, spread=1.0)
    add("output_norm.weight", hidden, spread=1.0)
    if not tied:
        add("output.weight", len(tokens), hidden, spread=0.5)
    tensors += [tensor_of(name, numbers) for name, numbers in (extra or {}).items()]
    return write_gguf(path, architecture, values, tensors)


def split(path: Path, stem: Path, count: int) -> list[Path]:
    """Split a model over files, as llama-gguf-split does it: the first has the header, each some of the tensors."""
    values, tensors = _contents(path)
    paths = []
    for n in range(count):
        of_part = {"split.no": np.uint16(n), "split.count": np.uint16(count), "split.tensors.count": np.int32(len(tensors))}
        paths.append(stem.with_name(f"{stem.name}-{n + 1:05}-of-{count:05}.gguf"))
        write_gguf(paths[-1], None, {**(values if n == 0 else {}), **of_part}, tensors[n::count])
    return paths


def _contents(path: Path) -> tuple[dict[str, Any], list[NewTensor]]:
    header = Header(path)
    values = header.scalars() | {key: header.texts(key) for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")}
    values["tokenizer.ggml.token_type"] = header.integers("tokenizer.ggml.token_type", 0, 6).astype(np.int32)
    tensors = [NewTensor(t.name, t.shape, TENSOR_TYPES[t.ggml_type].name, header.data[t.start : t.end]) for t in header.tensors]
    return values, tensors


def with_tensors(path: Path, target: Path, extra: Mapping[str, np.ndarray]) -> Path:
    """A model with more tensors of float32."""
    values, tensors = _contents(path)
    return write_gguf(target, None, values, [*tensors, *(tensor_of(name, numbers) for name, numbers in extra.items())])


def write_undescribed(path: Path, types: Mapping[str, str] | None = None, **options: Any) -> Path:
    """A llama whose heads of 36 elements no description takes."""
    return write_model(path, heads=8, kv_heads=4, head_size=36, tied=False, types=types, **options)
