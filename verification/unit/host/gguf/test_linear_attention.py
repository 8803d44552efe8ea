"""Linear attention in GGUF files: which rows and channels are what, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.firmware.description import Attention, LinearAttention, Rule
from tailrace.gguf.describe import ImportedModel, NoDescriptionError, import_model
from tailrace.gguf.file import open_model
from verification.unit.host.small_shapes import GRANITE_HYBRID, GRANITE_HYBRID_HEADER, QWEN3NEXT, QWEN3NEXT_HEADER, write


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
