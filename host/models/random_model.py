"""A llama with random weights, small enough to be printed as text."""

from pathlib import Path

import numpy as np

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
    import gguf

    random = np.random.default_rng(_SEED)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_SIZE)
    writer.add_value_length(HEAD_SIZE)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)

    def matrix(name: str, rows: int, columns: int, kind: str) -> None:
        values = (random.standard_normal((rows, columns)) * columns**-0.5).astype(np.float32)
        number = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(f"{name}.weight", gguf.quantize(values, number), raw_dtype=number)

    def vector(name: str, size: int) -> None:
        writer.add_tensor(f"{name}.weight", (1 + 0.1 * random.standard_normal(size)).astype(np.float32))

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
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
