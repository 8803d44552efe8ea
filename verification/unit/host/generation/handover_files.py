"""Hand-over files of small models, as a prefill elsewhere would write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tailrace.generation.first_layer import first_layer
from tailrace.gguf.describe import ImportedModel
from tailrace.spec import handover as contract
from tailrace.vllm.folder import HandoverFolder


def metadata_of(imported: ImportedModel, **changes: str) -> dict[str, str]:
    given = {"format": contract.FORMAT, "version": str(contract.VERSION), "writer": "test 1", "model": "tiny"}
    rest = {
        "architecture": imported.description.architecture,
        "vocabulary": str(imported.description.vocabulary),
        "rope_magnitude": "1",
    }
    return {**given, **rest, **changes}


def tensors_of(imported: ImportedModel, tokens: Sequence[int], seed: int = 1) -> dict[str, torch.Tensor]:
    """The first layer's keys and values, those of others at random."""
    random = np.random.default_rng(seed)
    rope = imported.ropes[imported.description.layers[0].attention.rope]
    tensors = {contract.TOKENS: torch.tensor(list(tokens)), contract.FREQUENCIES: torch.from_numpy(rope.frequencies())}
    for n, layer in enumerate(imported.description.layers):
        shape = (2, layer.attention.kv_heads, len(tokens), layer.attention.head_size)
        both: Any = random.standard_normal(shape)
        if n == 0:
            both = first_layer(imported, tokens, range(len(tokens)))
        for name, part in zip(contract.tensor_names(n), both, strict=True):
            tensors[name] = torch.from_numpy(np.ascontiguousarray(part, np.float32))
    return tensors


def write_handover(
    folder: Path,
    imported: ImportedModel,
    tokens: Sequence[int],
    change: Mapping[str, torch.Tensor | None] | None = None,
    kind: torch.dtype = torch.float32,
    seed: int = 1,
    **metadata: str,
) -> Path:
    """Write a file; `change` replaces tensors, and leaves those out that are None."""
    tensors: dict[str, Any] = {**tensors_of(imported, tokens, seed), **(change or {})}
    kept = {
        name: tensor.to(kind) if name.startswith("layers.") else tensor
        for name, tensor in tensors.items()
        if tensor is not None
    }
    name = contract.new_name()
    HandoverFolder(folder, 600).write(name, kept, metadata_of(imported, **metadata))
    return folder / name
