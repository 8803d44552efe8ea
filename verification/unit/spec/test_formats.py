"""Formats and stream layout: the formulas agree with the schedule, and no format takes more than its true bits."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import gguf
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st

from tailrace.spec.formats import (
    BLOCK,
    BY_GGML_TYPE,
    BY_NAME,
    BY_NUMBER,
    CODEBOOKS,
    FORMAT_MASK,
    FORMATS,
    FP4_CODEBOOK,
    HOLDERS,
    I8,
    IQ2_CODEBOOK,
    IQ4_CODEBOOK,
    LANE_BYTES,
    Q8_0,
    Q8_0X3,
    WEIGHT_FORMATS,
    BeatKind,
    Format,
    ScaleKind,
)

formats = st.sampled_from(FORMATS)
ids = [f.name for f in FORMATS]
weight_ids = [f.name for f in WEIGHT_FORMATS]


def test_tables() -> None:
    assert weight_ids == ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "NVFP4"]
    assert [f.number for f in FORMATS] == [*range(12), 15, 16, 17, 18, 19, 20, 21]
    assert (*WEIGHT_FORMATS, I8, Q8_0X3, *HOLDERS) == FORMATS
    assert BY_NAME["Q8_0"] is Q8_0
    for table in (BY_NAME, BY_NUMBER):
        assert list(table.values()) == list(FORMATS)
    assert list(BY_GGML_TYPE.values()) == list(WEIGHT_FORMATS)
    assert FORMAT_MASK == 0b11_1111_1000_1111_1111_1111


@pytest.mark.parametrize("fmt", WEIGHT_FORMATS, ids=weight_ids)
def test_types_and_sizes_are_those_of_gguf(fmt: Format) -> None:
    gguf_type = GGMLQuantizationType(fmt.ggml_type)
    assert gguf_type.name == fmt.name
    assert GGML_QUANT_SIZES[gguf_type] == (fmt.file_elements, fmt.file_bytes)
    assert fmt.row_bytes(1024) == 1024 // fmt.file_elements * fmt.file_bytes


def test_the_codebook_is_that_of_mxfp4() -> None:
    block = np.array([[128, *(code | code << 4 for code in range(16))]], dtype=np.uint8)
    assert gguf.dequantize(block, GGMLQuantizationType.MXFP4)[0, :16].tolist() == list(FP4_CODEBOOK)
    assert BY_NAME["MXFP4"].codebook is FP4_CODEBOOK


def test_the_codebook_is_that_of_nvfp4() -> None:
    # Scales of 2.0, as codes are doubled.
    row = [code | code << 4 for code in range(8)] + [code | code << 4 for code in range(8, 16)]
    block = np.array([[0x40] * 4 + row * 2], dtype=np.uint8)
    values = gguf.dequantize(block, GGMLQuantizationType.NVFP4)[0]
    assert [*values[:8], *values[16:24]] == list(FP4_CODEBOOK)
    assert BY_NAME["NVFP4"].codebook is FP4_CODEBOOK


@pytest.mark.parametrize("name", ["IQ4_NL", "IQ4_XS"])
def test_the_codebook_is_that_of_iq4(name: str) -> None:
    fmt = BY_NAME[name]
    # The scale is 1.0, and so is each subscale: 33 - 32.
    scale = [0x00, 0x3C] if name == "IQ4_NL" else [0x00, 0x3C, 0xAA, 0xAA, 0x11, 0x11, 0x11, 0x11]
    codes = [code | code << 4 for code in range(16)] * (fmt.file_elements // 32)
    values = gguf.dequantize(np.array([[*scale, *codes]], dtype=np.uint8), GGMLQuantizationType(fmt.ggml_type))
    assert values[0, :16].tolist() == list(IQ4_CODEBOOK)
    assert fmt.codebook is IQ4_CODEBOOK


def test_codebooks() -> None:
    assert CODEBOOKS == ((), FP4_CODEBOOK, IQ4_CODEBOOK, IQ2_CODEBOOK)
    assert all(f.codebook in CODEBOOKS for f in FORMATS)


@pytest.mark.parametrize(
    ("name", "scale", "subscale", "high", "bits"),
    [
        ("Q8_0", 8, 0, 0, 8.5),
        ("Q4_0", 8, 0, 0, 4.5),
        ("Q4_1", 4, 0, 0, 5.0),
        ("Q5_0", 8, 0, 4, 5.5),
        ("Q5_1", 4, 0, 4, 6.0),
        ("MXFP4", 16, 0, 0, 4.25),
        ("Q4_K", 8, 0, 0, 4.5),
        ("Q5_K", 8, 0, 4, 5.5),
        ("Q6_K", 64, 8, 2, 6.5625),
        ("IQ4_NL", 8, 0, 0, 4.5),
        ("IQ4_XS", 16, 0, 0, 4.25),
        ("NVFP4", 8, 0, 0, 4.5),
        ("Q8_0x3", 8, 0, 0, 25.5),
        ("Q4_SM16", 32, 8, 0, 4.625),
        ("Q4_S16", 64, 8, 0, 4.5625),
        ("Q5_S16", 64, 8, 4, 5.5625),
        ("IQ2_S16", 64, 8, 0, 4.5625),
        ("Q4_256", 64, 0, 0, 4.0625),
        ("I8", 0, 0, 0, 8.0),
    ],
)
def test_blocks_of_side_beats(name: str, scale: int, subscale: int, high: int, bits: float) -> None:
    fmt = BY_NAME[name]
    assert (fmt.scale_blocks, fmt.subscale_blocks, fmt.high_blocks) == (scale, subscale, high)
    assert fmt.bits_per_weight == bits


@pytest.mark.parametrize("fmt", FORMATS, ids=ids)
def test_the_stream_takes_the_true_bits_per_weight(fmt: Format) -> None:
    """Exactly those of the file, where the side beats are full."""
    for blocks in (64, 4096):
        assert fmt.stream_beats(blocks) * LANE_BYTES == fmt.row_bytes(blocks * fmt.block_elements)


@given(formats, st.integers(1, 200))
def test_partial_side_beats_cost_less_than_a_beat_each(fmt: Format, blocks: int) -> None:
    weights = blocks * fmt.block_elements * fmt.bits_per_weight / 8
    excess = fmt.stream_beats(blocks) * LANE_BYTES - weights
    assert 0 <= excess < max(LANE_BYTES * len(fmt.side_beats()), 1)


@given(formats, st.integers(0, 200))
def test_schedule(fmt: Format, blocks: int) -> None:
    """Each block has its beats, after those that it needs, in the order that the text gives, and the formula counts them."""
    beats = list(fmt.schedule(blocks))
    assert len(beats) == fmt.stream_beats(blocks)
    served = dict.fromkeys(BeatKind, 0)
    periods = dict(fmt.side_beats())
    order = []
    for kind, block in beats:
        if kind is BeatKind.NIBBLE:
            assert all(block < served[needed] for needed in periods)
            order.append(block)
        else:
            assert block == served[kind]
            served[kind] += periods[kind]
    assert order == [block for block in range(blocks * fmt.planes) for _ in range(fmt.nibble_beats)]
    ranks = list(BeatKind)
    for (kind, block), (following, next_block) in pairwise(beats):
        assert (block, ranks.index(kind)) <= (next_block, ranks.index(following))


def test_schedule_of_q5_0() -> None:
    kinds = [(kind.value[0], block) for kind, block in BY_NAME["Q5_0"].schedule(9)]
    nibbles = [("n", block) for block in range(9)]
    assert kinds == [("s", 0), ("h", 0), *nibbles[:4], ("h", 4), *nibbles[4:8], ("s", 8), ("h", 8), nibbles[8]]


def test_schedule_of_q6_k() -> None:
    beats = list(BY_NAME["Q6_K"].schedule(8))
    assert beats[:5] == [
        (BeatKind.SCALE, 0),
        (BeatKind.SUBSCALE, 0),
        (BeatKind.HIGH, 0),
        (BeatKind.NIBBLE, 0),
        (BeatKind.NIBBLE, 1),
    ]
    counts = Counter(kind for kind, _ in BY_NAME["Q6_K"].schedule(72))
    assert counts == {BeatKind.SCALE: 2, BeatKind.SUBSCALE: 9, BeatKind.HIGH: 36, BeatKind.NIBBLE: 72}


def test_planes_are_the_blocks_of_a_wider_matrix() -> None:
    assert replace(Q8_0X3.plane, name="Q8_0", number=0, ggml_type=8) == Q8_0
    assert list(Q8_0X3.schedule(5)) == list(Q8_0.schedule(15))
    assert Q8_0X3.matrix_bytes(7, 5, 2) == Q8_0.matrix_bytes(7, 15, 2)
    assert Q8_0.plane == Q8_0


def test_schedule_of_q8_0() -> None:
    counts = Counter(kind for kind, _ in Q8_0.schedule(17))
    assert counts == {BeatKind.SCALE: 3, BeatKind.NIBBLE: 34}


@pytest.mark.parametrize("fmt", FORMATS, ids=ids)
def test_periods_are_powers_of_two(fmt: Format) -> None:
    """So the longest one is a multiple of the others, and hardware counts blocks with plain bits."""
    assert all(blocks & (blocks - 1) == 0 for _, blocks in fmt.side_beats())
    assert BLOCK % fmt.block_elements == 0
    assert (fmt.scale_kind is ScaleKind.UNIT) == (fmt is I8)


@given(formats, st.integers(1, 100), st.integers(1, 50), st.sampled_from([1, 2, 4]))
def test_matrices(fmt: Format, rows: int, blocks: int, lanes: int) -> None:
    """Lanes hold whole rows, the last ones perhaps missing; more lanes never make the image smaller than the weights."""
    groups = (rows + lanes - 1) // lanes
    assert fmt.matrix_beats(rows, blocks, lanes) == fmt.stream_beats(groups * blocks)
    size = fmt.matrix_bytes(rows, blocks, lanes)
    assert size == fmt.matrix_beats(rows, blocks, lanes) * lanes * 16
    assert size * 8 >= rows * blocks * fmt.block_elements * fmt.bits_per_weight
