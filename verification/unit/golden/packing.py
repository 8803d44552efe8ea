"""Random matrices, and a packer that writes a stream beat by beat, straight from `Format.schedule`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK, LANE_BYTES, SUPERBLOCK, BeatKind, Format, ScaleKind

#: For each kind of scale beat: blocks that a unit of it serves, and bytes of the unit (without minima).
UNITS = {
    ScaleKind.FLOAT16: (1, 2),
    ScaleKind.EXPONENT: (1, 1),
    ScaleKind.SUPERBLOCK: (SUPERBLOCK, 16),
    ScaleKind.SIGNED_SUPERBLOCK: (SUPERBLOCK, 8),
    ScaleKind.FLOAT16_SUPERBLOCK: (SUPERBLOCK, 2),
    ScaleKind.UNIT: (1, 0),
    ScaleKind.FLOAT8: (1, 2),
}


@dataclass(frozen=True)
class Weights:
    """A matrix as its stream holds it.

    Attributes
    ----------
    format : Format
    codes : ndarray of int64, shape (rows, blocks, 32)
        Stored codes; for `I8` of shape (rows, blocks, 16). Blocks are those of the stream, of all planes.
    scales : ndarray of uint8, shape (rows, units, bytes)
        What scale beats hold, in the units in which they hold it (`UNITS`).
    subscales : ndarray of int8, shape (rows, blocks, 2)
        What subscale beats hold.
    """

    format: Format
    codes: NDArray[np.int64]
    scales: NDArray[np.uint8]
    subscales: NDArray[np.int8]

    @property
    def rows(self) -> int:
        return self.codes.shape[0]

    @property
    def blocks(self) -> int:
        """Of the vector."""
        return self.codes.shape[1] // self.format.planes


def unit_bytes(weights: Format) -> int:
    """Bytes of a unit of a format's scale beat."""
    size = UNITS[weights.scale_kind][1]
    return 2 * size if weights.has_minimum and weights.scale_kind is not ScaleKind.SUPERBLOCK else size


def random_weights(rng: np.random.Generator, weights: Format, rows: int, blocks: int, exponents: tuple[int, int]) -> Weights:
    """Random codes and subscales over their whole ranges; scales and minima of either sign with exponent fields in a range.

    K-quants want a multiple of 8 blocks.
    """
    blocks *= weights.planes
    bits = 4 * weights.nibble_beats + weights.high_bits
    signed = bits == 8 or weights.scale_kind is ScaleKind.UNIT
    shape = (rows, blocks, weights.block_elements)
    codes = rng.integers(-128, 128, shape) if signed else rng.integers(0, 1 << bits, shape)
    size = rows, blocks // UNITS[weights.scale_kind][0]

    def float16() -> NDArray[np.uint8]:
        sign, fraction = rng.integers(0, 2, size), rng.integers(0, 1024, size)
        field = sign << 15 | rng.integers(exponents[0], exponents[1] + 1, size) << 10 | fraction
        return field.astype("<u2").view(np.uint8).reshape(*size, 2)

    match weights.scale_kind:
        case ScaleKind.UNIT:
            scales = np.zeros((*size, 0), dtype=np.uint8)
        case ScaleKind.EXPONENT:
            scales = rng.integers(exponents[0], min(exponents[1], 30) + 1, (*size, 1)).astype(np.uint8)
        case ScaleKind.FLOAT8:
            field = rng.integers(min(exponents[0], 15), min(exponents[1], 15) + 1, (*size, 2))
            scales = (field << 3 | rng.integers(0, 8, (*size, 2))).astype(np.uint8)
        case ScaleKind.SUPERBLOCK:
            packed = rng.integers(0, 256, (*size, 12), dtype=np.uint8)
            scales = np.concatenate((float16(), float16(), packed), axis=2)
        case ScaleKind.SIGNED_SUPERBLOCK:
            scales = np.concatenate((float16(), rng.integers(0, 256, (*size, 6), dtype=np.uint8)), axis=2)
        case _:
            scales = np.concatenate((float16(), float16()), axis=2) if weights.has_minimum else float16()
    return Weights(weights, codes, scales, rng.integers(-128, 128, (rows, blocks, 2)).astype(np.int8))


def pack(weights: Weights, lanes: int) -> bytes:
    """Lay a matrix out as device memory holds it."""
    streams = []
    for lane in range(lanes):
        groups = -(-weights.rows // lanes)
        chain = [(lane + group * lanes, block) for group in range(groups) for block in range(weights.codes.shape[1])]
        beats = _with_halves(weights.format, groups * weights.blocks)
        streams.append([_beat(weights, chain, kind, first) for kind, first in beats])
    return b"".join(beat for beats in zip(*streams, strict=True) for beat in beats)


def _with_halves(format: Format, blocks: int) -> list[tuple[str, int]]:
    beats, seen = [], set()
    for kind, block in format.schedule(blocks):
        if kind is not BeatKind.NIBBLE:
            beats.append((kind.value, block))
        elif format.scale_kind is ScaleKind.UNIT:
            beats.append(("bytes", block))
        elif format.nibble_beats == 1:
            beats.append(("nibble", block))
        else:
            beats.append(("lower" if block in seen else "upper", block))
            seen.add(block)
    return beats


def _beat(weights: Weights, chain: list[tuple[int, int]], kind: str, first: int) -> bytes:
    def present(count: int) -> list[tuple[int, int] | None]:
        places = (chain[first : first + count] + [None] * count)[:count]
        return [place if place is not None and place[0] < weights.rows else None for place in places]

    format = weights.format
    beat = b""
    if kind == "scale":
        serves, _ = UNITS[format.scale_kind]
        for place in present(format.scale_blocks)[::serves]:
            beat += bytes(unit_bytes(format)) if place is None else weights.scales[place[0], place[1] // serves].tobytes()
    elif kind == "subscale":
        for place in present(format.subscale_blocks):
            beat += bytes(2) if place is None else weights.subscales[place].tobytes()
    elif kind == "high":
        n = format.high_bits
        for place in present(format.high_blocks):
            upper = [] if place is None else [int(code) >> 4 & (1 << n) - 1 for code in weights.codes[place]]
            beat += sum(bits << n * j for j, bits in enumerate(upper)).to_bytes(4 * n, "little")
    elif kind == "bytes":
        place = present(1)[0]
        beat = bytes(LANE_BYTES) if place is None else bytes(int(code) & 255 for code in weights.codes[place])
    else:
        place = present(1)[0]
        codes = [0] * BLOCK if place is None else [int(c) for c in weights.codes[place]]
        shift = 4 if kind == "upper" else 0
        nibbles = [code >> shift & 15 for code in codes]
        beat = bytes(nibbles[j] | nibbles[j + 16] << 4 for j in range(16))
    assert len(beat) == LANE_BYTES
    return beat
