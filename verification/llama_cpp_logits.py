"""Logits of llama.cpp, the independent reader of a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailrace.benchmark.llama_cpp import weights, without_its_log


def in_llama_cpp(path: Path, tokens: Sequence[int], context: int = 512) -> NDArray[np.float32]:
    """Logits behind each token, with keys and values in float32, shape (tokens, vocabulary)."""
    from cyllama.llama import llama_cpp

    parameters = llama_cpp.LlamaContextParams()
    parameters.n_ctx, parameters.n_threads, parameters.type_k, parameters.type_v = context, 1, 0, 0
    rows = []
    with without_its_log():
        state = llama_cpp.LlamaContext(weights(path), parameters)
        for position, token in enumerate(tokens):
            state.decode(llama_cpp.llama_batch_get_one([token], position))
            rows.append(np.array(state.get_logits(), dtype=np.float32))
        del state
    return np.array(rows)
