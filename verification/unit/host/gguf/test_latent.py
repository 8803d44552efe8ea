"""Latent attention in GGUF files: sizes, rows of rotated elements, YaRN's scores, and what is refused."""

import re
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.firmware.description import Attention, Latent
from tailrace.gguf.describe import ImportedModel, NoDescriptionError, import_model
from tailrace.gguf.file import open_model
from tailrace.gguf.writer import NewTensor, tensor_of, write_gguf
from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BY_NAME

HIDDEN, HEADS, ROTATED, LATENT = 64, 2, 16, Latent(size=96, key_size=32, value_size=48, query_rank=32)
HEADER: dict[str, Any] = {
    "block_count": 1, "context_length": 64, "embedding_length": HIDDEN, "feed_forward_length": 96, "attention.head_count": HEADS,
    "attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-5, "attention.kv_lora_rank": LATENT.size,
    "attention.q_lora_rank": LATENT.query_rank, "attention.key_length": LATENT.size + ROTATED, "attention.value_length": LATENT.size,
    "attention.key_length_mla": LATENT.key_size + ROTATED, "attention.value_length_mla": LATENT.value_size,
    "rope.dimension_count": ROTATED,
}  # fmt: skip
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 40.0, "rope.scaling.original_context_length": 16}
MATRICES: dict[str, tuple[int, ...]] = {
    "attn_q_a": (LATENT.query_rank, HIDDEN), "attn_q_b": (HEADS * (ROTATED + LATENT.key_size), LATENT.query_rank),
    "attn_kv_a_mqa": (ROTATED + LATENT.size, HIDDEN), "attn_k_b": (HEADS, LATENT.size, LATENT.key_size),
    "attn_v_b": (HEADS, LATENT.value_size, LATENT.size), "attn_output": (HIDDEN, HEADS * LATENT.value_size),
    "ffn_gate": (96, HIDDEN), "ffn_up": (96, HIDDEN), "ffn_down": (HIDDEN, 96),
}  # fmt: skip
VECTORS = {"attn_norm": HIDDEN, "attn_q_a_norm": LATENT.query_rank, "attn_kv_a_norm": LATENT.size, "ffn_norm": HIDDEN}


def write(path: Path, changes: dict[str, Any] | None = None, *extra: NewTensor) -> Path:
    """A model of one layer."""
    rng = np.random.default_rng(1)
    tensors = [tensor_of("token_embd.weight", rng.standard_normal((40, HIDDEN)), "Q8_0"), *extra]
    tensors += [tensor_of("output_norm.weight", np.ones(HIDDEN))]
    tensors += [tensor_of(f"blk.0.{name}.weight", rng.standard_normal(shape), "Q8_0") for name, shape in MATRICES.items()]
    tensors += [tensor_of(f"blk.0.{name}.weight", np.ones(size)) for name, size in VECTORS.items()]
    values = {key: value for key, value in {**HEADER, **(changes or {})}.items() if value is not None}
    return write_gguf(path, "deepseek2", {f"deepseek2.{key}": value for key, value in values.items()}, tensors)


def imported(path: Path) -> ImportedModel:
    return import_model(open_model(path))


def test_description(tmp_path: Path) -> None:
    attention = imported(write(tmp_path / "m.gguf")).description.layers[0].attention
    assert attention == Attention(HEADS, 1, LATENT.size + ROTATED, pytest.approx(48**-0.5), ROTATED, latent=LATENT)
    assert (attention.value_size, attention.output_size) == (96, 48)


def test_rows_of_rotated_elements_come_first_of_all(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    file = open_model(path)
    sources = import_model(file).matrices
    pairs = [*range(0, ROTATED, 2), *range(1, ROTATED, 2)]
    one = [*(32 + i for i in pairs), *range(32)]
    orders = {
        "q": ("attn_q_b", [*one, *(48 + i for i in one)]),
        "kv_a": ("attn_kv_a_mqa", [*(96 + i for i in pairs), *range(96)]),
    }
    for role, (name, order) in orders.items():
        source = sources[f"layers.0.{role}"]
        assert np.array_equal(source.blocks(0, source.rows, BY_NAME["Q8_0"]), file.tensors[f"blk.0.{name}.weight"].data[order])
    for role, rows, columns in (("k_b", HEADS * 96, 32), ("v_b", HEADS * 48, 96), ("q_a", 32, HIDDEN)):
        source = sources[f"layers.0.{role}"]
        assert (source.rows, source.columns, source.order) == (rows, columns, None)


def test_yarn_scales_scores_as_far_as_the_header_says(tmp_path: Path) -> None:
    scaled = imported(write(tmp_path / "a.gguf", {**YARN, "rope.scaling.yarn_log_multiplier": 0.07}))
    assert scaled.ropes["rope"].magnitude == 1.0
    attention = scaled.description.layers[0].attention
    assert isinstance(attention, Attention)
    assert attention.scale == pytest.approx(48**-0.5 * (1 + 0.07 * log(40)) ** 2)
    plain = imported(write(tmp_path / "b.gguf", YARN))
    assert plain.ropes["rope"].magnitude == pytest.approx(1 + 0.1 * log(40))
    attention = plain.description.layers[0].attention
    assert isinstance(attention, Attention)
    assert attention.scale == pytest.approx(48**-0.5)


def test_older_files(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {"attention.key_length_mla": None})
    text = (
        f"{path} can't be run: it is an older file, with one matrix for keys and values (attn_kv_b) where newer ones have attn_k_b"
        " and attn_v_b. Get a newer file of the model, or convert it again"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        imported(path)


@pytest.mark.parametrize(("key", "value"), [("key_length", 96), ("value_length", 112), ("head_count_kv", 2)])
def test_sizes_that_contradict_each_other(key: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"deepseek2\.attention\.{key}"):
        imported(write(tmp_path / "m.gguf", {f"attention.{key}": value}))


def test_sizes_that_are_no_whole_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {"attention.q_lora_rank": 40})
    text = "its latent attention has a vector of 40 elements, which is not a multiple of 32"
    with pytest.raises(NoDescriptionError, match=f"{re.escape(text)}$"):
        imported(path)


def test_biases_are_not_left_out(tmp_path: Path) -> None:
    bias = tensor_of("blk.0.attn_q_a.bias", np.ones(LATENT.query_rank))
    with pytest.raises(ModelError, match=r"such as blk\.0\.attn_q_a\.bias, so its results would be wrong"):
        imported(write(tmp_path / "m.gguf", None, bias))
