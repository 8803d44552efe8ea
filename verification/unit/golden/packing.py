"""Random matrices, and a packer that writes a stream beat by beat, straight from `Format.schedule`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import BLOCK, LANE_BYTES, BeatKind, Format


@dataclass(frozen=True)
class Weights:
    """Stored codes, shape (rows, blocks, 32), and float16 bits of scales and minima, shape (rows, blocks)."""

    format: Format
    codes: NDArray[np.int64]
    scales: NDArray[np.uint16]
    minima: NDArray[np.uint16]


def random_weights(rng: np.random.Generator, weights: Format, rows: int, blocks: int, exponents: tuple[int, int]) -> Weights:
    """Random codes over their whole range, and scales and minima of either sign with exponent fields in a range."""
    bits = 4 * weights.nibble_beats + weights.high_bits
    low, high = (-128, 128) if bits == 8 else (0, 1 << bits)

    def float16() -> NDArray[np.uint16]:
        sign, fraction = rng.integers(0, 2, (rows, blocks)), rng.integers(0, 1024, (rows, blocks))
        return (sign << 15 | rng.integers(exponents[0], exponents[1] + 1, (rows, blocks)) << 10 | fraction).astype(np.uint16)

    return Weights(weights, rng.integers(low, high, (rows, blocks, BLOCK)), float16(), float16())


def pack(weights: Weights, lanes: int) -> bytes:
    """Lay a matrix out as device memory holds it."""
    rows, blocks, _ = weights.codes.shape
    streams = []
    for lane in range(lanes):
        groups = -(-rows // lanes)
        chain = [(lane + group * lanes, block) for group in range(groups) for block in range(blocks)]
        streams.append([_beat(weights, chain, kind, first) for kind, first in _with_halves(weights.format, len(chain))])
    return b"".join(beat for beats in zip(*streams, strict=True) for beat in beats)


def _with_halves(format: Format, blocks: int) -> list[tuple[str, int]]:
    beats, seen = [], set()
    for kind, block in format.schedule(blocks):
        if kind is not BeatKind.NIBBLE:
            beats.append((kind.value, block))
        elif format.nibble_beats == 1:
            beats.append(("nibble", block))
        else:
            beats.append(("lower" if block in seen else "upper", block))
            seen.add(block)
    return beats


def _beat(weights: Weights, chain: list[tuple[int, int]], kind: str, first: int) -> bytes:
    def present(count: int) -> list[tuple[int, int] | None]:
        places = (chain[first : first + count] + [None] * count)[:count]
        return [place if place is not None and place[0] < weights.codes.shape[0] else None for place in places]

    if kind == "scale":
        beat = b""
        for place in present(weights.format.blocks_per_scale_beat):
            for plane in (weights.scales, weights.minima) if weights.format.has_minimum else (weights.scales,):
                beat += (0 if place is None else int(plane[place])).to_bytes(2, "little")
    elif kind == "high":
        beat = b""
        for place in present(weights.format.blocks_per_high_beat):
            bits = 0 if place is None else sum((int(code) >> 4 & 1) << j for j, code in enumerate(weights.codes[place]))
            beat += bits.to_bytes(4, "little")
    else:
        place = present(1)[0]
        codes = [0] * BLOCK if place is None else [int(c) for c in weights.codes[place]]
        shift = 4 if kind == "upper" else 0
        nibbles = [code >> shift & 15 for code in codes]
        beat = bytes(nibbles[j] | nibbles[j + 16] << 4 for j in range(16))
    assert len(beat) == LANE_BYTES
    return beat
