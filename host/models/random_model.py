"""A llama with random weights, small enough to be printed as text."""

from pathlib import Path

import numpy as np

from ..gguf.writer import NewTensor, tensor_of, write_gguf

HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD_SIZE, LAYERS, VOCABULARY, CONTEXT = 64, 96, 2, 1, 32, 2, 96, 64
#: Formats of matrices, in turn: with a scale, with a minimum as well, with fifth bits, with 8-bit codes.
_FORMATS = ("Q4_0", "Q4_1", "Q5_0", "Q8_0")
_SEED = 1


def write_random_model(path: Path) -> None:
    """Write the model as GGUF, the same bytes every time.

    Parameters
    ----------
    path : Path
    """
    random = np.random.default_rng(_SEED)
    values = {
        "llama.block_count": LAYERS,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.key_length": HEAD_SIZE,
        "llama.attention.value_length": HEAD_SIZE,
        "llama.rope.dimension_count": HEAD_SIZE,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": VOCABULARY,
    }
    tensors: list[NewTensor] = []

    def matrix(name: str, rows: int, columns: int, kind: str) -> None:
        numbers = (random.standard_normal((rows, columns)) * columns**-0.5).astype(np.float32)
        tensors.append(tensor_of(f"{name}.weight", numbers, kind))

    def vector(name: str, size: int) -> None:
        tensors.append(tensor_of(f"{name}.weight", 1 + 0.1 * random.standard_normal(size)))

    matrix("token_embd", VOCABULARY, HIDDEN, "Q8_0")
    vector("output_norm", HIDDEN)
    for layer in range(LAYERS):
        for place, (name, rows, columns) in enumerate(
            (
                ("attn_q", HEADS * HEAD_SIZE, HIDDEN),
                ("attn_k", KV_HEADS * HEAD_SIZE, HIDDEN),
                ("attn_v", KV_HEADS * HEAD_SIZE, HIDDEN),
                ("attn_output", HIDDEN, HEADS * HEAD_SIZE),
                ("ffn_gate", FEED_FORWARD, HIDDEN),
                ("ffn_up", FEED_FORWARD, HIDDEN),
                ("ffn_down", HIDDEN, FEED_FORWARD),
            )
        ):
            matrix(f"blk.{layer}.{name}", rows, columns, _FORMATS[(place + layer) % len(_FORMATS)])
        vector(f"blk.{layer}.attn_norm", HIDDEN)
        vector(f"blk.{layer}.ffn_norm", HIDDEN)
    write_gguf(path, "llama", values, tensors)
