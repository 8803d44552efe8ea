"""Weight streams: beat by beat as the specification says, and back without a loss."""

import gguf
import numpy as np
import pytest

from tailrace.layout import blocks_of_stream, stream_of_blocks
from tailrace.spec.formats import BLOCK, FORMATS, LANE_BYTES, BeatKind, Format

SEED = 20
SHAPES = [(1, 1), (1, 9), (2, 4), (5, 3), (7, 18), (33, 5)]
ids = [f.name for f in FORMATS]


def random_blocks(fmt: Format, rows: int, per_row: int) -> np.ndarray:
    return np.random.default_rng((SEED, fmt.number, rows, per_row)).integers(
        0, 256, (rows, per_row * fmt.block_bytes), dtype=np.uint8
    )


def lane_stream(fmt: Format, blocks: list[bytes]) -> bytes:
    """One lane's stream, written down from the text of the specification, one beat at a time."""
    blocks = blocks + [bytes(fmt.block_bytes)] * 8
    side = 4 if fmt.has_minimum else 2
    high = 4 if fmt.high_bits else 0
    beats, second = [], False
    for kind, n in fmt.schedule(len(blocks) - 8):
        codes = blocks[n][side + high :]
        if kind is BeatKind.SCALE:
            beat = b"".join(b[:side] for b in blocks[n : n + LANE_BYTES // side])
        elif kind is BeatKind.HIGH:
            beat = b"".join(b[side : side + 4] for b in blocks[n : n + 4])
        elif fmt.nibble_beats == 1:
            beat = codes
        else:
            nibble = (lambda c: c & 15) if second else (lambda c: c >> 4)
            beat = bytes(nibble(codes[j]) | nibble(codes[j + 16]) << 4 for j in range(16))
            second = not second
        beats.append(beat)
    return b"".join(beats)


@pytest.mark.parametrize("fmt", FORMATS, ids=ids)
@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize(("rows", "per_row"), SHAPES)
def test_stream_is_the_specified_one(fmt: Format, lanes: int, rows: int, per_row: int) -> None:
    raw = random_blocks(fmt, rows, per_row)
    stream = stream_of_blocks(fmt, raw, lanes)
    assert stream.size == fmt.matrix_bytes(rows, per_row, lanes)
    by_beat = stream.reshape(-1, lanes, LANE_BYTES)
    padded = -(-rows // lanes) * lanes
    table = np.zeros((padded, per_row, fmt.block_bytes), dtype=np.uint8)
    table[:rows] = raw.reshape(rows, per_row, -1)
    for lane in range(lanes):
        expected = lane_stream(fmt, [b.tobytes() for row in table[lane::lanes] for b in row])
        assert by_beat[:, lane].tobytes() == expected, f"seed {SEED}, lane {lane}"


@pytest.mark.parametrize("fmt", FORMATS, ids=ids)
@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize(("rows", "per_row"), SHAPES)
def test_reading_back_gives_the_file(fmt: Format, lanes: int, rows: int, per_row: int) -> None:
    raw = random_blocks(fmt, rows, per_row)
    back = blocks_of_stream(fmt, stream_of_blocks(fmt, raw, lanes), rows, per_row, lanes)
    assert np.array_equal(back, raw), f"seed {SEED}"


@pytest.mark.parametrize("fmt", FORMATS, ids=ids)
def test_quantised_tensor_comes_back_with_its_weights(fmt: Format) -> None:
    kind = gguf.GGMLQuantizationType[fmt.name]
    raw = gguf.quantize(np.random.default_rng(SEED).standard_normal((13, 7 * BLOCK)).astype(np.float32), kind)
    back = blocks_of_stream(fmt, stream_of_blocks(fmt, raw, 4), 13, 7, 4)
    assert np.array_equal(back, raw)
    assert np.array_equal(gguf.dequantize(back, kind), gguf.dequantize(raw, kind))


@pytest.mark.parametrize("fmt", FORMATS, ids=ids)
def test_true_bits_per_weight(fmt: Format) -> None:
    weights = 4096 * 4096
    assert fmt.matrix_bytes(4096, 4096 // BLOCK, 4) * 8 / weights == fmt.bits_per_weight


def test_bad_shapes() -> None:
    fmt = FORMATS[0]
    with pytest.raises(ValueError, match="^" + "a Q8_0 matrix must have rows of whole 34-byte blocks, not shape"):
        stream_of_blocks(fmt, np.zeros((2, 33), dtype=np.uint8), 1)
    with pytest.raises(ValueError, match=r"not shape \(0, 34\)$"):
        stream_of_blocks(fmt, np.zeros((0, 34), dtype=np.uint8), 1)
    with pytest.raises(ValueError, match="^the stream of a 2 x 32 Q8_0 matrix has 80 bytes, not 64$"):
        blocks_of_stream(fmt, np.zeros(64, dtype=np.uint8), 2, 1, 1)
