"""Weight streams: from the blocks of a GGUF file to the order in which the device reads them, and back.

`tailrace.spec.formats` defines the stream. Both directions move bytes and nibbles; no number is computed.
"""

from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK, LANE_BYTES, BeatKind, Format

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class BlockFields:
    """Where the parts of a GGUF block lie: scale (and minimum) first, then upper bits, then codes."""

    scale: slice
    high: slice
    codes: slice

    @classmethod
    def of(cls, fmt: Format) -> "BlockFields":
        """The parts of a block of `fmt`."""
        high = 4 if fmt.has_minimum else 2
        codes = high + BLOCK * fmt.high_bits // 8
        return cls(slice(0, high), slice(high, codes), slice(codes, fmt.block_bytes))


def stream_of_blocks(fmt: Format, blocks: Bytes, lanes: int) -> Bytes:
    """Lay a matrix out for the device.

    Parameters
    ----------
    fmt : Format
    blocks : ndarray of uint8, shape (rows, blocks_per_row * fmt.block_bytes)
        The tensor's bytes as the GGUF file has them.
    lanes : int
        Lanes of the device.

    Returns
    -------
    ndarray of uint8, shape (fmt.matrix_bytes(rows, blocks_per_row, lanes),)

    Raises
    ------
    ValueError
        If a row is not a whole number of blocks, or the matrix is empty.
    """
    rows, per_row = _check(fmt, blocks.shape)
    groups = -(-rows // lanes)
    count = groups * per_row
    period, order = _period(fmt)
    periods = -(-count // period)

    # by_lane[lane, block] is the block that the lane reads as its block number `block`.
    by_lane: Bytes = np.zeros((lanes, periods * period, fmt.block_bytes), dtype=np.uint8)
    if lanes == 1:
        by_lane[0, :count] = blocks.reshape(count, fmt.block_bytes)
    else:
        for lane in range(min(lanes, rows)):
            part = blocks[lane::lanes].reshape(-1, fmt.block_bytes)
            by_lane[lane, : len(part)] = part
    table = by_lane.reshape(lanes, periods, period, fmt.block_bytes)

    fields = BlockFields.of(fmt)
    stream = np.empty((periods, len(order), lanes, LANE_BYTES), dtype=np.uint8)
    codes = table[..., fields.codes]
    planes = _nibble_planes(codes) if fmt.nibble_beats == 2 else (codes,)
    for beat, (kind, block, plane) in enumerate(order):
        if kind is BeatKind.SCALE:
            part = table[:, :, block : block + fmt.blocks_per_scale_beat, fields.scale]
        elif kind is BeatKind.HIGH:
            part = table[:, :, block : block + fmt.blocks_per_high_beat, fields.high]
        else:
            part = planes[plane][:, :, block]
        stream[:, beat] = part.reshape(lanes, periods, LANE_BYTES).swapaxes(0, 1)
    return stream.reshape(-1)[: fmt.matrix_bytes(rows, per_row, lanes)]


def blocks_of_stream(fmt: Format, stream: Bytes, rows: int, blocks_per_row: int, lanes: int) -> Bytes:
    """Read a matrix back from its stream; the inverse of `stream_of_blocks`.

    Returns
    -------
    ndarray of uint8, shape (rows, blocks_per_row * fmt.block_bytes)
        Exactly the bytes of the GGUF file.

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
    groups = -(-rows // lanes)
    count = groups * blocks_per_row
    period, order = _period(fmt)
    periods = -(-count // period)
    whole = np.zeros(periods * len(order) * lanes * LANE_BYTES, dtype=np.uint8)
    whole[: stream.size] = stream
    beats = whole.reshape(periods, len(order), lanes, LANE_BYTES)

    fields = BlockFields.of(fmt)
    by_lane = np.zeros((lanes, periods, period, fmt.block_bytes), dtype=np.uint8)
    codes = by_lane[..., fields.codes]
    for beat, (kind, block, plane) in enumerate(order):
        part = beats[:, beat].swapaxes(0, 1)
        if kind is BeatKind.SCALE:
            served = fmt.blocks_per_scale_beat
            by_lane[:, :, block : block + served, fields.scale] = part.reshape(lanes, periods, served, -1)
        elif kind is BeatKind.HIGH:
            served = fmt.blocks_per_high_beat
            by_lane[:, :, block : block + served, fields.high] = part.reshape(lanes, periods, served, -1)
        elif fmt.nibble_beats == 1:
            codes[:, :, block] = part
        else:
            shift = 4 if plane == 0 else 0
            codes[:, :, block, : BLOCK // 2] |= (part & 0xF) << shift
            codes[:, :, block, BLOCK // 2 :] |= (part >> 4) << shift
    ordered = by_lane.reshape(lanes, -1, fmt.block_bytes)[:, :count].reshape(lanes, groups, -1)
    return ordered.swapaxes(0, 1).reshape(groups * lanes, -1)[:rows]


def _nibble_planes(codes: Bytes) -> tuple[Bytes, Bytes]:
    """Upper and lower nibbles of bytes (..., 32), each packed as a nibble beat (..., 16)."""
    first, second = codes[..., : BLOCK // 2], codes[..., BLOCK // 2 :]
    lower, four = np.uint8(0x0F), np.uint8(4)
    return first >> four | (second & ~lower), first & lower | (second << four)


def _period(fmt: Format) -> tuple[int, list[tuple[BeatKind, int, int]]]:
    """Blocks after which the order of beats repeats, and that order: kind, first block, number of the nibble beat.

    A stream that ends inside a period is a prefix of whole periods, so it is laid out whole and cut.
    """
    period = lcm(fmt.blocks_per_scale_beat, max(fmt.blocks_per_high_beat, 1))
    order: list[tuple[BeatKind, int, int]] = []
    for kind, block in fmt.schedule(period):
        again = bool(order) and kind is BeatKind.NIBBLE and order[-1][:2] == (kind, block)
        order.append((kind, block, 1 if again else 0))
    return period, order


def _check(fmt: Format, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2 or 0 in shape or shape[1] % fmt.block_bytes:
        raise ValueError(f"a {fmt.name} matrix must have rows of whole {fmt.block_bytes}-byte blocks, not shape {shape}")
    return shape[0], shape[1] // fmt.block_bytes
