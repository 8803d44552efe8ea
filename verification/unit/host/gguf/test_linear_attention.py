"""Linear attention in GGUF files: which rows and channels are what, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.firmware.description import Activation, Attention, Experts, FeedForward, LinearAttention, Rule, Scores
from tailrace.gguf.describe import ImportedModel, NoDescriptionError, import_model
from tailrace.gguf.file import open_model
from tailrace.spec.errors import ModelError
from verification.unit.host.small_shapes import (
    GRANITE_HYBRID,
    GRANITE_HYBRID_HEADER,
    NEMOTRON_H,
    NEMOTRON_H_HEADER,
    QWEN3NEXT,
    QWEN3NEXT_HEADER,
    write,
)


def imported(path: Path) -> ImportedModel:
    return import_model(open_model(path))


def granite(tmp_path: Path, header: dict[str, Any] | None = None, shapes: dict[str, tuple[int, ...]] | None = None) -> Path:
    return write(tmp_path / "m.gguf", "granitehybrid", GRANITE_HYBRID_HEADER | (header or {}), GRANITE_HYBRID | (shapes or {}))


def rows_of(model: ImportedModel, tensor: str) -> NDArray[np.float32]:
    found = model.model.tensors[f"blk.0.{tensor}.weight"]
    return found.dequantised().reshape(found.shape)


def test_rows_in_turn(tmp_path: Path) -> None:
    """For each key head rows of queries, keys, values and gates follow each other, and rows of rates and decays."""
    model = imported(write(tmp_path / "m.gguf", "qwen3next", QWEN3NEXT_HEADER, QWEN3NEXT))
    assert model.description.layers[0].attention == LinearAttention(2, 4, 32, 32, 3, False, Rule.DELTA, 32)
    mixed, rates = rows_of(model, "ssm_in"), rows_of(model, "ssm_ba")
    first, second = range(192), range(192, 384)
    qkv = [*first[:32], *second[:32], *first[32:64], *second[32:64], *first[64:128], *second[64:128]]
    for role, expected in (
        ("qkv", mixed[qkv]), ("output_gate", mixed[[*first[128:], *second[128:]]]), ("beta", rates[[0, 1, 4, 5]]),
        ("alpha", rates[[2, 3, 6, 7]]),
    ):  # fmt: skip
        assert np.array_equal(model.matrices[f"layers.0.{role}"].numbers(), expected), role


def test_rows_apart(tmp_path: Path) -> None:
    """Newer files have gates in a matrix of their own."""
    shapes = {name: shape for name, shape in QWEN3NEXT.items() if "ssm_in" not in name}
    shapes |= {"blk.{n}.attn_qkv.weight": (256, 64), "blk.{n}.attn_gate.weight": (128, 64)}
    model = imported(write(tmp_path / "m.gguf", "qwen3next", QWEN3NEXT_HEADER, shapes))
    for role, tensor in (("qkv", "attn_qkv"), ("output_gate", "attn_gate")):
        assert np.array_equal(model.matrices[f"layers.0.{role}"].numbers(), rows_of(model, tensor)), role


def test_rows_and_channels(tmp_path: Path) -> None:
    """Of the file's rows gates come first, then x, B and C, which are values, keys and queries, and time steps."""
    model = imported(granite(tmp_path))
    assert model.description.layers[0].attention == LinearAttention(2, 4, 32, 32, 3, False, Rule.STATE_SPACE, 64)
    rows, taps = rows_of(model, "ssm_in"), rows_of(model, "ssm_conv1d")
    bias = model.model.tensors["blk.0.ssm_conv1d.bias"].dequantised().reshape(256)
    order = [*range(192, 256), *range(128, 192), *range(128)]
    for role, expected in (
        ("output_gate", rows[:128]),
        ("qkv", rows[128:384][order]),
        ("alpha", rows[384:]),
    ):
        assert np.array_equal(model.matrices[f"layers.0.{role}"].numbers(), expected), role
    assert np.array_equal(model.matrices["layers.0.qkv"].numbers(60, 70), rows[128:384][order][60:70])
    assert np.array_equal(model.tables["layers.0.convolution"].numbers(), taps[order].T)
    assert np.array_equal(model.tables["layers.0.convolution_bias"].numbers(), [bias[order]])
    for role, name in (
        ("decay", "ssm_a"),
        ("skip", "ssm_d"),
        ("alpha_bias", "ssm_dt.bias"),
        ("output_norm", "ssm_norm.weight"),
    ):
        held = model.model.tensors[f"blk.0.{name}"].dequantised().reshape(1, -1)
        assert np.array_equal(model.tables[f"layers.0.{role}"].numbers(), held), role


@pytest.mark.parametrize(("stated", "rotated"), [({}, 0), ({"rope.scaling.finetuned": True}, 16)])
def test_rope_is_used_as_the_header_says(stated: dict[str, Any], rotated: int, tmp_path: Path) -> None:
    model = imported(granite(tmp_path, stated))
    attention = model.description.layers[1].attention
    assert isinstance(attention, Attention)
    assert attention.rotary_size == rotated
    assert list(model.ropes) == (["rope"] if rotated else [])


@pytest.mark.parametrize(
    ("header", "shapes", "reason"),
    [
        (
            {},
            {"blk.0.ssm_in.bias": (388,)},
            "its blk.0.ssm_in has a bias, and the program adds none to what linear attention starts from",
        ),
        (
            {"ssm.state_size": 288},
            {},
            "its linear attention has keys of 288 and values of 32 elements, and the program takes multiples of 32, keys up to 256",
        ),
        (
            {"ssm.time_step_rank": 3},
            {},
            "its linear attention has 2 key heads, 3 value heads and 128 values, which are no multiples",
        ),
    ],
)
def test_what_is_refused(header: dict[str, Any], shapes: dict[str, tuple[int, ...]], reason: str, tmp_path: Path) -> None:
    path = granite(tmp_path, header, shapes)
    text = f"{path} can't be decoded as a whole: {reason}"
    with pytest.raises(NoDescriptionError, match=f"^{re.escape(text)}$"):
        imported(path)


def test_a_feed_forward_of_its_own_joins_the_layer_before(tmp_path: Path) -> None:
    """With its weights, and what these are multiplied with."""
    scales = {f"{name.removesuffix('.weight')}.scale": (1,) for name in ("blk.0.attn_v.weight", "blk.1.ffn_down.weight")}
    model = imported(write(tmp_path / "m.gguf", "nemotron_h_moe", NEMOTRON_H_HEADER, NEMOTRON_H | scales))
    first, second = model.description.layers
    inner, expert = (FeedForward(size, Activation.SQUARED_RELU, gated=False) for size in (96, 64))
    assert (first.attention, first.feed_forward) == (Attention(4, 2, 16, 0.25), inner)
    assert isinstance(second.attention, LinearAttention)
    assert second.feed_forward == Experts(8, 3, expert, scores=Scores.SIGMOID, shared=inner)
    for role, tensor in (
        ("layers.0.q", "blk.0.attn_q"), ("layers.0.down", "blk.1.ffn_down"), ("layers.1.o", "blk.2.ssm_out"),
        ("layers.1.experts_up", "blk.3.ffn_up_exps"), ("layers.1.router", "blk.3.ffn_gate_inp"),
    ):  # fmt: skip
        assert model.matrices[role].tensor.name == f"{tensor}.weight"
    assert model.tables["layers.1.feed_forward_norm"].tensor.name == "blk.3.attn_norm.weight"
    assert (model.matrices["layers.0.v"].scale, model.matrices["layers.0.down"].scale) == (0, 1)
    held = np.concatenate([model.model.tensors[name].dequantised()[0] for name in scales])
    assert np.array_equal(model.tables["layers.0.scales"].numbers(), [held])


def test_what_a_header_says_of_angles_that_nothing_is_rotated_by_does_not_matter(tmp_path: Path) -> None:
    """Converters give a head's share of the activations, which need not be a multiple of 8."""
    header = NEMOTRON_H_HEADER | {"rope.dimension_count": 84, "rope.freq_base": 1e4}
    model = imported(write(tmp_path / "m.gguf", "nemotron_h_moe", header, NEMOTRON_H))
    assert (model.description.attentions[0].rotary_size, model.ropes) == (0, {})


@pytest.mark.parametrize("heads", [0, 4])
def test_no_attention_at_all(heads: int, tmp_path: Path) -> None:
    """Where there is none, the number of its heads is that of a state space's, or 0; other numbers are of another model."""
    header = {k: v for k, v in GRANITE_HYBRID_HEADER.items() if "head_count" not in k and "rope" not in k}
    header |= {"block_count": 1, "feed_forward_length": 0, "attention.head_count": heads}
    shapes = {name: shape for name, shape in GRANITE_HYBRID.items() if "ffn" not in name and "blk.1" not in name}
    model = imported(write(tmp_path / "m.gguf", "mamba2", header, shapes))
    (layer,) = model.description.layers
    assert isinstance(layer.attention, LinearAttention)
    assert (layer.feed_forward, model.ropes) == (None, {})
    wrong = write(tmp_path / "n.gguf", "mamba2", header | {"attention.head_count": 3}, shapes)
    text = (
        f"{wrong} can't be run: its header has mamba2.attention.head_count = 3, which no other mamba2 model has that is known"
        " here, so its results would be wrong"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        imported(wrong)


def test_a_feed_forward_that_nothing_comes_before_is_refused(tmp_path: Path) -> None:
    shapes = {
        name.replace("blk.0", "blk.9").replace("blk.1", "blk.0").replace("blk.9", "blk.1"): s for name, s in NEMOTRON_H.items()
    }
    header = NEMOTRON_H_HEADER | {"attention.head_count_kv": [0, 2, 0, 0], "feed_forward_length": [96, 0, 0, 64]}
    path = write(tmp_path / "m.gguf", "nemotron_h_moe", header, shapes)
    text = f"{path} can't be decoded as a whole: no attention comes before the feed-forward of its layer 0"
    with pytest.raises(NoDescriptionError, match=f"^{re.escape(text)}$"):
        imported(path)
