"""Folders of Hugging Face against GGUF files with the same weights, bit by bit, and against transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("transformers")

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import Model, open_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.text.tokenizer import Tokenizer
from verification.unit.host.gguf.checkpoint.folders import make_folder, save
from verification.unit.host.references import divergence, reference_logits

TOKENS = [int(t) for t in np.random.default_rng(1).integers(3, 260, 8)]
#: Of the mean divergence from transformers in float32, whose keys and values are not rounded.
LIMIT = 1e-3
#: Names of random models, and what of their sizes is not as usual.
CASES: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen2": {}, "qwen3": {}, "qwen3moe": {}, "mixtral": {}, "gemma2": {}, "gemma3": {"layers": 6}, "phi3": {"head_size": 16},
    "olmo2": {"head_size": 16}, "seed_oss": {}, "granite": {},
}  # fmt: skip


def logits(path: Path) -> NDArray[np.float32]:
    imported = import_model(open_model(path), 64)
    decoder = Decoder(Device(open_device("golden", parse_config("base"), 1 << 26)), imported)
    return np.array([np.array(decoder.step(token)) for token in TOKENS])


def facts(model: Model) -> dict[str, Any]:
    """What a header says of the model, without its tokenizer and its name."""
    return {k: v for k, v in model.header.scalars().items() if k.startswith(f"{model.architecture.name}.")}


@pytest.mark.parametrize("architecture", CASES)
def test_a_folder_is_the_file_with_its_weights(architecture: str, tmp_path: Path) -> None:
    model, folder, file = make_folder(tmp_path / "modell-ü", architecture, **CASES[architecture])
    ours, theirs = open_model(folder), open_model(file)
    said, known = facts(ours), facts(theirs)
    assert {key: value for key, value in said.items() if key in known} == known
    assert set(ours.tensors) == set(theirs.tensors)
    assert import_model(ours).description == import_model(theirs).description
    found = logits(folder)
    assert np.array_equal(found, logits(file))
    assert divergence(reference_logits(model, TOKENS), found).mean() < LIMIT
    text = "hello ab cab <|im_end|>"
    assert Tokenizer(ours).encode(text) == Tokenizer(theirs).encode(text)
    assert Tokenizer(ours).ends == Tokenizer(theirs).ends


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_numbers_of_16_bits_are_those_of_the_folder(dtype: str, tmp_path: Path) -> None:
    model, folder, _ = make_folder(tmp_path / "m", "llama", dtype)
    opened = open_model(folder)
    weights = model.model.layers[1].mlp.down_proj.weight.numpy()
    tensor = opened.tensors["blk.1.ffn_down.weight"]
    assert tensor.type_name == {"bfloat16": "BF16", "float16": "F16"}[dtype]
    assert np.array_equal(tensor.dequantised(), weights)
    assert not tensor.data.flags.owndata
    assert not tensor.data.flags.writeable
    assert divergence(reference_logits(model, TOKENS), logits(folder)).mean() < LIMIT


def test_several_files_are_one_model(tmp_path: Path) -> None:
    model, folder, _ = make_folder(tmp_path / "whole", "llama")
    parts = save(tmp_path / "parts", model, max_shard_size="100KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    whole = open_model(folder)
    for name, tensor in open_model(parts).tensors.items():
        assert np.array_equal(tensor.data, whole.tensors[name].data)
    assert len(open_model(parts).stamps) == len(list(parts.iterdir())) - 1
