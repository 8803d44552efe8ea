"""Weight streams: what a slow and obvious reader of the specification finds in them is what ggml's files hold, and back."""

from collections.abc import Iterator

import gguf
import numpy as np
import pytest

from tailrace.image.weight_stream import blocks_of_stream, matrix_exponent, matrix_stream, stream_of_blocks
from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK, BY_NAME, LANE_BYTES, WEIGHT_FORMATS, BeatKind, Format, ScaleKind

SEED = 20
#: Rows, and blocks of the file in a row.
SHAPES = [(1, 1), (1, 9), (2, 4), (5, 3), (33, 5)]
ids = [f.name for f in WEIGHT_FORMATS]
MXFP4 = BY_NAME["MXFP4"]


def random_blocks(fmt: Format, rows: int, per_row: int) -> np.ndarray:
    """Any bytes, but for scales that are no numbers, and exponents of MXFP4 that lie too far apart."""
    random = np.random.default_rng((SEED, fmt.number, rows, per_row))
    raw = random.integers(0, 256, (rows, per_row, fmt.file_bytes), dtype=np.uint8)
    if fmt.scale_kind is ScaleKind.EXPONENT:
        raw[..., 0] = random.integers(101, 132, (rows, per_row))
        raw[..., 1] |= 1
    elif fmt.scale_kind is ScaleKind.FLOAT8:
        # All that are numbers; 127 is none.
        raw[..., :4] %= 127
    else:
        first = fmt.file_bytes - 2 if fmt.subscale_blocks else 0
        halves = raw[..., first : first + 2 + 2 * fmt.has_minimum]
        halves[..., 1::2] &= 0xBB
    return raw.reshape(rows, -1)


def bits(value: int, low: int, width: int) -> int:
    return value >> low & ((1 << width) - 1)


def lane_blocks(fmt: Format, stream: bytes, blocks: int, exponent: int) -> Iterator[np.ndarray]:
    """The weights of each block in a lane's stream, read as spec/formats.py says it, a beat and an element at a time."""
    scale = subscale = high = b""
    nibbles: list[bytes] = []
    beats = [stream[i : i + LANE_BYTES] for i in range(0, len(stream), LANE_BYTES)]
    for beat, (kind, n) in zip(beats, fmt.schedule(blocks), strict=True):
        if kind is BeatKind.SCALE:
            scale = beat
        elif kind is BeatKind.SUBSCALE:
            subscale = beat
        elif kind is BeatKind.HIGH:
            high = beat
        else:
            nibbles.append(beat)
        if len(nibbles) == fmt.nibble_beats:
            yield np.array([element(fmt, scale, subscale, high, nibbles, n, j, exponent) for j in range(BLOCK)], np.float32)
            nibbles = []


def element(
    fmt: Format, scale: bytes, subscale: bytes, high: bytes, nibbles: list[bytes], n: int, j: int, e: int
) -> np.float32:
    def nibble(beat: bytes) -> int:
        return beat[j] & 15 if j < 16 else beat[j - 16] >> 4

    code = nibble(nibbles[-1])
    if fmt.nibble_beats == 2:
        upper = nibble(nibbles[0])
        code += 16 * (upper - 16 if upper >= 8 else upper)
    if fmt.high_bits:
        index = n % fmt.high_blocks
        word = int.from_bytes(high[4 * fmt.high_bits * index :][: 4 * fmt.high_bits], "little")
        code += bits(word, fmt.high_bits * j, fmt.high_bits) << 4
    code = fmt.codebook[code] if fmt.codebook else code - fmt.code_offset

    def half(index: int) -> np.float32:
        return np.float32(np.frombuffer(scale, "<f2")[index])

    if fmt.scale_kind is ScaleKind.EXPONENT:
        assert scale[n % 16] <= 30
        return np.float32(code * 2.0 ** (scale[n % 16] - 24 + e))
    if fmt.scale_kind is ScaleKind.FLOAT8:
        octet = scale[n % 8 * 2 + j // 16]
        fraction, exponent = octet & 7, octet >> 3
        return np.float32(code * (fraction + 8 * (exponent > 0)) * 2.0 ** (max(exponent, 1) - 18 + e))
    if fmt.scale_kind is ScaleKind.FLOAT16_SUPERBLOCK:
        sub = np.frombuffer(subscale, np.int8)[n % 8 * 2 + j // 16]
        return half(n // 8 % 8) * np.float32(sub) * np.float32(code)
    if fmt.scale_kind is ScaleKind.SIGNED_SUPERBLOCK:
        block, at = n % 8, n // 8 % 2 * 8
        upper, lower = (int.from_bytes(scale[at + a : at + b], "little") for a, b in ((2, 4), (4, 8)))
        return half(at // 2) * np.float32((bits(lower, 4 * block, 4) | bits(upper, 2 * block, 2) << 4) - 32) * np.float32(code)
    if fmt.scale_kind is ScaleKind.SUPERBLOCK:
        packed, b = scale[4:], n % 8
        if b < 4:
            sub, subminimum = packed[b] & 63, packed[b + 4] & 63
        else:
            sub = packed[b + 4] & 15 | packed[b - 4] >> 6 << 4
            subminimum = packed[b + 4] >> 4 | packed[b] >> 6 << 4
        return half(0) * np.float32(sub) * np.float32(code) - half(1) * np.float32(subminimum)
    if fmt.has_minimum:
        return half(n % 4 * 2) * np.float32(code) + half(n % 4 * 2 + 1)
    return half(n % 8) * np.float32(code)


@pytest.mark.parametrize("fmt", WEIGHT_FORMATS, ids=ids)
@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize(("rows", "per_row"), SHAPES)
def test_the_stream_holds_the_weights_that_gguf_reads(fmt: Format, lanes: int, rows: int, per_row: int) -> None:
    raw = random_blocks(fmt, rows, per_row)
    stream, exponent = matrix_stream(fmt, raw, lanes)
    blocks = per_row * fmt.row_blocks
    assert stream.size == fmt.matrix_bytes(rows, blocks, lanes)
    weights = gguf.dequantize(raw, gguf.GGMLQuantizationType(fmt.ggml_type))
    groups = -(-rows // lanes)
    expected = np.zeros((groups * lanes, weights.shape[1]), dtype=np.float32)
    expected[:rows] = weights
    by_lane = stream.reshape(-1, lanes, LANE_BYTES)
    for lane in range(lanes):
        found = np.stack(list(lane_blocks(fmt, by_lane[:, lane].tobytes(), groups * blocks, exponent)))
        found = found.reshape(groups, -1)
        assert np.array_equal(found, expected[lane::lanes]), f"seed {SEED}, lane {lane}"


@pytest.mark.parametrize("fmt", WEIGHT_FORMATS, ids=ids)
@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize(("rows", "per_row"), [*SHAPES, (2000, 9)])
def test_reading_back_gives_the_file(fmt: Format, lanes: int, rows: int, per_row: int) -> None:
    raw = random_blocks(fmt, rows, per_row)
    stream, exponent = matrix_stream(fmt, raw, lanes)
    back = blocks_of_stream(fmt, stream, rows, per_row * fmt.row_blocks, lanes, exponent)
    assert np.array_equal(back, raw), f"seed {SEED}"


@pytest.mark.parametrize("fmt", WEIGHT_FORMATS, ids=ids)
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_a_large_matrix_is_laid_out_like_its_parts(fmt: Format, lanes: int) -> None:
    """Rows are laid out some at a time; where those meet must not be seen."""
    groups = 64 * 4
    raw = random_blocks(fmt, groups * lanes, 16 if fmt.row_blocks == 1 else 4)
    exponent = matrix_exponent(fmt, raw)
    parts = [stream_of_blocks(fmt, raw[i : i + 64 * lanes], lanes, exponent) for i in range(0, len(raw), 64 * lanes)]
    assert np.array_equal(stream_of_blocks(fmt, raw, lanes, exponent), np.concatenate(parts))


@pytest.mark.parametrize("fmt", WEIGHT_FORMATS, ids=ids)
def test_true_bits_per_weight(fmt: Format) -> None:
    weights = 4096 * 4096
    assert fmt.matrix_bytes(4096, 4096 // BLOCK, 4) * 8 / weights == fmt.bits_per_weight


def mxfp4(exponents: list[int], zeros: tuple[int, ...] = ()) -> np.ndarray:
    """A row for each exponent; blocks in `zeros` hold the codes of 0 and -0 only."""
    raw = np.full((len(exponents), 17), 0x35, dtype=np.uint8)
    raw[list(zeros), 1:] = 0x80
    raw[:, 0] = exponents
    return raw


@pytest.mark.parametrize("exponents", [[0, 1, 30], [224, 254], [0, 0], [120, 110, 121, 100], [30, 30, 0]])
def test_exponents_of_mxfp4(exponents: list[int]) -> None:
    raw = mxfp4(exponents)
    stream, exponent = matrix_stream(MXFP4, raw, 1)
    assert -128 <= exponent <= 127
    assert [int(b) - 24 + exponent for b in stream[: len(exponents)]] == [e - 128 for e in exponents]
    assert np.array_equal(blocks_of_stream(MXFP4, stream, len(exponents), 1, 1, exponent), raw)


def test_zeros_of_mxfp4_do_not_count() -> None:
    raw = mxfp4([0, 120, 100, 255, 105], (0, 3, 4))
    stream, exponent = matrix_stream(MXFP4, raw, 1)
    assert exponent == matrix_exponent(MXFP4, raw[1:3])
    assert stream[:5].max() <= 30
    back = blocks_of_stream(MXFP4, stream, 5, 1, 1, exponent)
    assert back[:, 0].tolist() == [0, 120, 100, 0, 105]
    assert np.array_equal(back[:, 1:], raw[:, 1:])
    assert matrix_exponent(MXFP4, mxfp4([7, 200], (0, 1))) == 0


def test_exponent_of_nvfp4() -> None:
    assert matrix_exponent(BY_NAME["NVFP4"], np.zeros((2, 36), dtype=np.uint8)) == 7


def test_exponents_too_far_apart() -> None:
    assert matrix_exponent(MXFP4, mxfp4([90, 120])) == -14
    with pytest.raises(
        ModelError,
        match="^the exponents of its MXFP4 blocks run from -39 to -8, and the device takes 31 different ones in a matrix: get the"
        " model in another format$",
    ):
        matrix_exponent(MXFP4, mxfp4([89, 120]))
    with pytest.raises(ValueError, match="^exponent 3 does not suit the matrix: use that of matrix_exponent$"):
        stream_of_blocks(MXFP4, mxfp4([100]), 1, 3)


def test_bad_shapes() -> None:
    fmt = BY_NAME["Q8_0"]
    with pytest.raises(ValueError, match="^" + "a Q8_0 matrix must have rows of whole 34-byte blocks, not shape"):
        stream_of_blocks(fmt, np.zeros((2, 33), dtype=np.uint8), 1)
    with pytest.raises(ValueError, match=r"not shape \(0, 34\)$"):
        stream_of_blocks(fmt, np.zeros((0, 34), dtype=np.uint8), 1)
    with pytest.raises(ValueError, match="^the stream of a 2 x 32 Q8_0 matrix has 80 bytes, not 64$"):
        blocks_of_stream(fmt, np.zeros(64, dtype=np.uint8), 2, 1, 1)
    with pytest.raises(ValueError, match="^a Q4_K matrix must have rows of whole 144-byte blocks, not shape"):
        matrix_exponent(BY_NAME["Q4_K"], np.zeros((1, 143), dtype=np.uint8))
