"""State spaces in GGUF files: which rows and channels are what, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.firmware.description import Attention, LinearAttention, Rule
from tailrace.gguf.describe import ImportedModel, NoDescriptionError, import_model
from tailrace.gguf.file import open_model
from verification.unit.host.small_shapes import GRANITE_HYBRID, GRANITE_HYBRID_HEADER, write


def imported(path: Path) -> ImportedModel:
    return import_model(open_model(path))


def granite(tmp_path: Path, header: dict[str, Any] | None = None, shapes: dict[str, tuple[int, ...]] | None = None) -> Path:
    return write(tmp_path / "m.gguf", "granitehybrid", GRANITE_HYBRID_HEADER | (header or {}), GRANITE_HYBRID | (shapes or {}))


def test_rows_and_channels(tmp_path: Path) -> None:
    """Of the file's rows gates come first, then x, B and C, which are values, keys and queries, and time steps."""
    model = imported(granite(tmp_path))
    assert model.description.layers[0].attention == LinearAttention(2, 4, 32, 32, 3, False, Rule.STATE_SPACE, 64)
    rows = model.model.tensors["blk.0.ssm_in.weight"].dequantised().reshape(388, 64)
    taps = model.model.tensors["blk.0.ssm_conv1d.weight"].dequantised().reshape(256, 3)
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
