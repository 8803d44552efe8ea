"""Weight streams: from the blocks of a GGUF file to the order in which the device reads them, and back.

`tailrace.spec.formats` defines the stream. Both directions move bytes and nibbles. The one number that changes is the
exponent of MXFP4, which the stream holds relative to that of the matrix.
"""

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK, LANE_BYTES, BeatKind, Format, ScaleKind

from ..gguf.blocks import Bytes, Planes, join_planes, split_blocks

#: A weight of NVFP4 is half of a codebook's value times its scale, and the stream holds the scale's float16 times 2**-8.
_FLOAT8_EXPONENT = 8 - 1
#: Largest exponent byte in a stream of MXFP4.
_EXPONENT_MAX = 30
#: A weight of MXFP4 in the file is ``code * 2**(byte - 128)``, and in the stream ``code * 2**(byte - 24)``.
_EXPONENT_BIAS = 128 - 24
#: The lowest exponent of a command.
_COMMAND_EXPONENT_MIN = -128
#: Codes of MXFP4 but for their signs.
_MAGNITUDES = np.uint8(0x77)
#: Bytes of a matrix that are laid out at a time, so that they stay in the processor's cache.
_PART_BYTES = 1 << 20


def matrix_exponent(fmt: Format, blocks: Bytes) -> int:
    """The exponent that commands need for a matrix as the file has it; 0 for all formats but MXFP4 and NVFP4.

    Matrices that are laid out in parts, or share commands, need the one of all of them together.

    Parameters
    ----------
    fmt : Format
    blocks : ndarray of uint8, shape (rows, bytes of a row)

    Raises
    ------
    ModelError
        If the exponents are further apart than a stream can hold. Blocks of zeros do not count.
    """
    _check(fmt, blocks.shape)
    if fmt.scale_kind is ScaleKind.FLOAT8:
        return _FLOAT8_EXPONENT
    if fmt.scale_kind is not ScaleKind.EXPONENT:
        return 0
    table = blocks.reshape(-1, fmt.file_bytes)
    used = table[_is_used(table[:, 1:]), 0]
    if not used.size:
        return 0
    low, high = int(used.min()), int(used.max())
    if high - low > _EXPONENT_MAX:
        raise ModelError(
            f"the exponents of its {fmt.name} blocks run from {low - 128} to {high - 128}, and the device takes"
            f" {_EXPONENT_MAX + 1} different ones in a matrix: get the model in another format"
        )
    return max(high - _EXPONENT_BIAS - _EXPONENT_MAX, _COMMAND_EXPONENT_MIN)


def matrix_stream(fmt: Format, blocks: Bytes, lanes: int) -> tuple[Bytes, int]:
    """A matrix's stream, and the exponent that goes into its commands; see `stream_of_blocks` and `matrix_exponent`."""
    exponent = matrix_exponent(fmt, blocks)
    return stream_of_blocks(fmt, blocks, lanes, exponent), exponent


def stream_of_blocks(fmt: Format, blocks: Bytes, lanes: int, exponent: int = 0) -> Bytes:
    """Lay a matrix out for the device.

    Parameters
    ----------
    fmt : Format
        A weight format.
    blocks : ndarray of uint8, shape (rows, bytes of a row)
        The tensor's bytes as the GGUF file has them.
    lanes : int
        Lanes of the device.
    exponent : int
        `matrix_exponent`.

    Returns
    -------
    ndarray of uint8, shape (fmt.matrix_bytes(rows, blocks in a row, lanes),)

    Raises
    ------
    ValueError
        If a row is not a whole number of the file's blocks, or the matrix is empty.
    """
    fmt = fmt.plane
    rows, per_row = _check(fmt, blocks.shape)
    groups = -(-rows // lanes)
    beats = _beats_of_period(fmt)
    period = _period(fmt)
    periods = -(-groups * per_row // period)
    stream = np.empty((periods, sum(map(len, beats.values())), lanes, LANE_BYTES), dtype=np.uint8)
    # A part starts and, but for the last one, ends between two periods.
    step = max(_PART_BYTES // max(fmt.row_bytes(per_row * BLOCK) * lanes * period, 1), 1) * period
    for first in range(0, groups, step):
        part = blocks[first * lanes : (first + step) * lanes]
        start = first * per_row // period
        _fill(fmt, part, lanes, exponent, stream[start : start + -(-(min(groups - first, step) * per_row) // period)], beats)
    return stream.reshape(-1)[: fmt.matrix_bytes(rows, per_row, lanes)]


def blocks_of_stream(fmt: Format, stream: Bytes, rows: int, blocks_per_row: int, lanes: int, exponent: int = 0) -> Bytes:
    """Read a matrix back from its stream; the inverse of `stream_of_blocks`.

    Returns
    -------
    ndarray of uint8, shape (rows, bytes of a row)
        Exactly the bytes of the GGUF file, but for the exponents of MXFP4 blocks of zeros: one that the stream can not hold
        becomes 0, as ggml writes it.

    Raises
    ------
    ValueError
        If the stream does not have the length of such a matrix.
    """
    expected = fmt.matrix_bytes(rows, blocks_per_row, lanes)
    if stream.size != expected:
        raise ValueError(
            f"the stream of a {rows} x {blocks_per_row * BLOCK} {fmt.name} matrix has {expected} bytes, not {stream.size}"
        )
    blocks_per_row, fmt = blocks_per_row * fmt.planes, fmt.plane
    groups = -(-rows // lanes)
    beats = _beats_of_period(fmt)
    period = _period(fmt)
    periods = -(-groups * blocks_per_row // period)
    whole = np.zeros((periods, sum(map(len, beats.values())), lanes, LANE_BYTES), dtype=np.uint8)
    whole.reshape(-1)[: stream.size] = stream

    def plane(kind: tuple[BeatKind, int], items_per_row: int) -> Bytes:
        if kind not in beats:
            return np.empty((rows, items_per_row, 0), dtype=np.uint8)
        by_lane = np.ascontiguousarray(whole[:, beats[kind]].transpose(2, 0, 1, 3)).reshape(lanes, -1)
        size = _item_bytes(fmt, kind[0])
        items = by_lane[:, : groups * items_per_row * size].reshape(lanes, groups, items_per_row, size)
        return items.swapaxes(0, 1).reshape(groups * lanes, items_per_row, size)[:rows]

    per_file = blocks_per_row // fmt.row_blocks
    nibbles = tuple(plane((BeatKind.NIBBLE, i), blocks_per_row) for i in range(fmt.nibble_beats))
    scale = plane((BeatKind.SCALE, 0), per_file)
    if fmt.scale_kind is ScaleKind.EXPONENT:
        restored = (scale.astype(np.int16) + (exponent + _EXPONENT_BIAS)).astype(np.uint8)
        scale = np.where(_is_used(nibbles[0])[..., None] | (scale > 0), restored, np.uint8(0))
    return join_planes(
        fmt, Planes(scale, plane((BeatKind.SUBSCALE, 0), per_file), plane((BeatKind.HIGH, 0), blocks_per_row), nibbles)
    )


def _fill(
    fmt: Format, blocks: Bytes, lanes: int, exponent: int, stream: Bytes, beats: dict[tuple[BeatKind, int], list[int]]
) -> None:
    """Lay some rows out into `stream`, shape (periods, beats of a period, lanes, 16)."""
    planes = split_blocks(fmt, blocks)
    scale = _relative(planes, exponent) if fmt.scale_kind is ScaleKind.EXPONENT else planes.scale
    parts = {
        (BeatKind.SCALE, 0): scale,
        (BeatKind.SUBSCALE, 0): planes.subscale,
        (BeatKind.HIGH, 0): planes.high,
        **{(BeatKind.NIBBLE, i): plane for i, plane in enumerate(planes.nibbles)},
    }
    for kind, places in beats.items():
        items = parts[kind].reshape(len(blocks), -1)
        by_lane = np.zeros((lanes, len(stream) * len(places) * LANE_BYTES), dtype=np.uint8)
        for lane in range(min(lanes, len(blocks))):
            rows = items[lane::lanes]
            by_lane[lane, : rows.size].reshape(rows.shape)[...] = rows
        shaped = by_lane.reshape(lanes, len(stream), len(places), LANE_BYTES)
        for i, place in enumerate(places):
            stream[:, place] = shaped[:, :, i].swapaxes(0, 1)


def _relative(planes: Planes, exponent: int) -> Bytes:
    """Exponent bytes as the stream holds them; those of zeros that it can not hold become 0."""
    relative = planes.scale.astype(np.int16) - (exponent + _EXPONENT_BIAS)
    held = (relative >= 0) & (relative <= _EXPONENT_MAX)
    if not (held[..., 0] | ~_is_used(planes.nibbles[0])).all():
        raise ValueError(f"exponent {exponent} does not suit the matrix: use that of matrix_exponent")
    return np.where(held, relative, 0).astype(np.uint8)


def _is_used(codes: Bytes) -> NDArray[np.bool_]:
    """Which blocks of MXFP4 codes (..., 16) are not all zeros."""
    return np.asarray((codes & _MAGNITUDES).any(axis=-1))


def _item_bytes(fmt: Format, kind: BeatKind) -> int:
    """Bytes of a beat of a lane that belong to one block of the file, or to one of 32 elements for upper bits and nibbles."""
    if kind is BeatKind.SCALE:
        return LANE_BYTES * fmt.row_blocks // fmt.scale_blocks
    if kind is BeatKind.SUBSCALE:
        return 2 * fmt.row_blocks
    return 4 * fmt.high_bits if kind is BeatKind.HIGH else LANE_BYTES


def _period(fmt: Format) -> int:
    """Blocks after which the order of beats repeats. A stream that ends inside a period is a prefix of whole periods."""
    return max(blocks for _, blocks in fmt.side_beats())


def _beats_of_period(fmt: Format) -> dict[tuple[BeatKind, int], list[int]]:
    """For each kind of beat, and each number of a nibble beat in its block, its places in a period."""
    places: dict[tuple[BeatKind, int], list[int]] = {}
    previous = None
    for place, beat in enumerate(fmt.schedule(_period(fmt))):
        again = beat[0] is BeatKind.NIBBLE and beat == previous
        places.setdefault((beat[0], int(again)), []).append(place)
        previous = beat
    return places


def _check(fmt: Format, shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows, and blocks of 32 elements in a row."""
    if len(shape) != 2 or 0 in shape or shape[1] % fmt.file_bytes:
        raise ValueError(f"a {fmt.name} matrix must have rows of whole {fmt.file_bytes}-byte blocks, not shape {shape}")
    return shape[0], shape[1] // fmt.file_bytes * fmt.row_blocks
