"""Small GGUF models with random weights, written as a converter would write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
SPECIAL = ["<unk>", "<|im_start|>", "<|im_end|>"]


def byte_alphabet() -> list[str]:
    """The 256 characters that byte-level tokenizers (GPT-2) use for bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    extra = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(extra)) for b in range(256)]


def write_model(
    path: Path,
    architecture: str = "llama",
    *,
    types: Mapping[str, str] | None = None,
    default_type: str = "Q8_0",
    hidden: int = 64,
    heads: int = 2,
    kv_heads: int = 1,
    head_size: int = 32,
    feed_forward: int = 96,
    layers: int = 2,
    context: int = 64,
    tied: bool = True,
    chat_template: str | None = CHAT_TEMPLATE,
    seed: int = 1,
    extra: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    change: Mapping[str, np.ndarray] | None = None,
    leave_out: tuple[str, ...] = (),
) -> Path:
    """Write a model.

    `types` gives the type of single tensors by name, `default_type` that of the other matrices. `extra` adds float32 tensors,
    `metadata` adds values, `change` replaces a tensor's bytes, and `leave_out` leaves tensors out.
    """
    random = np.random.default_rng(seed)
    tokens = SPECIAL + byte_alphabet() + ["ab", "cd"]
    tokens += [f"<unused{i}>" for i in range(-len(tokens) % 32)]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(head_size)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t.startswith("<") and len(t) > 1 else 1 for t in tokens])
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    if chat_template:
        writer.add_chat_template(chat_template)
    for key, value in (metadata or {}).items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))

    def add(name: str, *shape: int, spread: float) -> None:
        values = (random.standard_normal(shape) * spread).astype(np.float32)
        if name in leave_out:
            return
        kind = gguf.GGMLQuantizationType[(types or {}).get(name, default_type if len(shape) == 2 else "F32")]
        data = (change or {}).get(name)
        if data is None:
            data = gguf.quantize(values, kind) if kind != gguf.GGMLQuantizationType.F32 else values
        writer.add_tensor(name, data, raw_dtype=kind)

    add("token_embd.weight", len(tokens), hidden, spread=0.5)
    for layer in range(layers):
        block = f"blk.{layer}"
        query, key = heads * head_size, kv_heads * head_size
        for name, rows, columns in (
            ("attn_q", query, hidden),
            ("attn_k", key, hidden),
            ("attn_v", key, hidden),
            ("attn_output", hidden, query),
            ("ffn_gate", feed_forward, hidden),
            ("ffn_up", feed_forward, hidden),
            ("ffn_down", hidden, feed_forward),
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
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
