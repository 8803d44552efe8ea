"""A model with a given vocabulary: one small layer of zeros, and the tokenizer of another file.

Files that are a vocabulary and nothing else can't be opened as models, here or elsewhere.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tailrace.gguf.header import Header
from tailrace.gguf.writer import NewTensor, write_gguf

#: Elements of a row: one block.
HIDDEN = 32


def dress(vocabulary: Path, path: Path) -> Path:
    """Write a model of the architecture llama with the vocabulary of another file.

    Parameters
    ----------
    vocabulary : Path
        A GGUF file that has a tokenizer.
    path : Path
        Where the model goes.
    """
    return write_vocabulary(path, tokenizer_values(Header(vocabulary)))


def tokenizer_values(header: Header) -> dict[str, Any]:
    """The values of a header that are about its tokenizer."""
    values = {key: value for key, value in header.scalars().items() if key.startswith("tokenizer.") or key == "general.name"}
    for name in ("tokens", "merges"):
        if (key := f"tokenizer.ggml.{name}") in header:
            values[key] = header.texts(key)
    if (key := "tokenizer.ggml.scores") in header:
        values[key] = header.reals(key, -1e38, 1e38).astype(np.float32)
    if (key := "tokenizer.ggml.token_type") in header:
        values[key] = header.integers(key, -128, 127).astype(np.int32)
    return values


def write_vocabulary(path: Path, values: dict[str, Any], rows: int | None = None) -> Path:
    """Write a model of the architecture llama whose weights are zeros.

    Parameters
    ----------
    path : Path
    values : dict of str to object
        The header's values that are about the tokenizer, by their keys.
    rows : int or None
        Rows of the embedding; None: as many as there are tokens.
    """
    rows = len(values.get("tokenizer.ggml.tokens", "x")) if rows is None else rows
    sizes = {
        "block_count": 1, "context_length": 64, "embedding_length": HIDDEN, "feed_forward_length": HIDDEN,
        "attention.head_count": 1, "attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": HIDDEN, "vocab_size": rows,
    }  # fmt: skip
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    tensors = [
        NewTensor("token_embd.weight", (rows, HIDDEN), "Q8_0"),
        NewTensor("output_norm.weight", (HIDDEN,), "F32"),
        *(NewTensor(f"blk.0.{name}.weight", (HIDDEN, HIDDEN), "Q8_0") for name in matrices),
        *(NewTensor(f"blk.0.{name}.weight", (HIDDEN,), "F32") for name in ("attn_norm", "ffn_norm")),
    ]
    return write_gguf(path, "llama", {**{f"llama.{key}": value for key, value in sizes.items()}, **values}, tensors)
