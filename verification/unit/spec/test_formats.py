"""Formats and stream layout: the formulas agree with the schedule, and no format takes more than its true bits."""

from collections import Counter

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st

from tailrace.spec.formats import BLOCK, BY_GGML_TYPE, BY_NAME, BY_NUMBER, FORMAT_MASK, FORMATS, LANE_BYTES, BeatKind, Format

formats = st.sampled_from(FORMATS)


def test_tables() -> None:
    assert [f.name for f in FORMATS] == ["Q8_0", "Q4_0", "Q4_1", "Q5_0"]
    assert [f.number for f in FORMATS] == [0, 1, 2, 3]
    for table in (BY_NAME, BY_NUMBER, BY_GGML_TYPE):
        assert list(table.values()) == list(FORMATS)
    assert FORMAT_MASK == 0b1111


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
def test_types_and_sizes_are_those_of_gguf(weight_format: Format) -> None:
    gguf_type = GGMLQuantizationType(weight_format.ggml_type)
    assert gguf_type.name == weight_format.name
    assert GGML_QUANT_SIZES[gguf_type] == (BLOCK, weight_format.block_bytes)


@pytest.mark.parametrize(
    ("name", "per_scale_beat", "per_high_beat", "bits"),
    [("Q8_0", 8, 0, 8.5), ("Q4_0", 8, 0, 4.5), ("Q4_1", 4, 0, 5.0), ("Q5_0", 8, 4, 5.5)],
)
def test_blocks_per_side_beat(name: str, per_scale_beat: int, per_high_beat: int, bits: float) -> None:
    weight_format = BY_NAME[name]
    assert weight_format.blocks_per_scale_beat == per_scale_beat
    assert weight_format.blocks_per_high_beat == per_high_beat
    assert weight_format.bits_per_weight == bits


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
def test_a_stream_takes_the_true_bits_per_weight(weight_format: Format) -> None:
    """Exactly those of the file, where the side beats are full."""
    for blocks in (8, 64, 4096):
        assert weight_format.stream_beats(blocks) * LANE_BYTES == blocks * weight_format.block_bytes


@given(formats, st.integers(1, 200))
def test_partial_side_beats_cost_less_than_a_beat_each(weight_format: Format, blocks: int) -> None:
    excess = weight_format.stream_beats(blocks) * LANE_BYTES - blocks * weight_format.block_bytes
    assert 0 <= excess < LANE_BYTES * (1 + weight_format.high_bits)


@given(formats, st.integers(0, 200))
def test_schedule(weight_format: Format, blocks: int) -> None:
    """Each block has its beats, after those that it needs, and the formula counts them all."""
    beats = list(weight_format.schedule(blocks))
    assert len(beats) == weight_format.stream_beats(blocks)
    scaled, lifted = 0, 0
    order = []
    for kind, block in beats:
        if kind is BeatKind.SCALE:
            assert block == scaled
            scaled += weight_format.blocks_per_scale_beat
        elif kind is BeatKind.HIGH:
            assert block == lifted
            lifted += weight_format.blocks_per_high_beat
        else:
            assert block < scaled
            assert not weight_format.high_bits or block < lifted
            order.append(block)
    assert order == [block for block in range(blocks) for _ in range(weight_format.nibble_beats)]
    for before, (kind, block) in zip(beats, beats[1:], strict=False):
        if kind is BeatKind.HIGH and block % weight_format.blocks_per_scale_beat == 0:
            assert before == (BeatKind.SCALE, block)


def test_schedule_of_q5_0() -> None:
    kinds = [(kind.value[0], block) for kind, block in BY_NAME["Q5_0"].schedule(9)]
    nibbles = [("n", block) for block in range(9)]
    assert kinds == [("s", 0), ("h", 0), *nibbles[:4], ("h", 4), *nibbles[4:8], ("s", 8), ("h", 8), nibbles[8]]


def test_schedule_of_q8_0() -> None:
    counts = Counter(kind for kind, _ in BY_NAME["Q8_0"].schedule(17))
    assert counts == {BeatKind.SCALE: 3, BeatKind.NIBBLE: 34}


@given(formats, st.integers(1, 100), st.integers(1, 50), st.sampled_from([1, 2, 4]))
def test_matrices(weight_format: Format, rows: int, blocks: int, lanes: int) -> None:
    """Lanes hold whole rows, the last ones perhaps missing; more lanes never make the image smaller than the weights."""
    groups = (rows + lanes - 1) // lanes
    assert weight_format.matrix_beats(rows, blocks, lanes) == weight_format.stream_beats(groups * blocks)
    size = weight_format.matrix_bytes(rows, blocks, lanes)
    assert size == weight_format.matrix_beats(rows, blocks, lanes) * lanes * 16
    assert size >= rows * blocks * weight_format.block_bytes
